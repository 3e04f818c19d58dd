"""The broker: the process that has the credentials of tool servers, and calls their tools for programs and clients."""
