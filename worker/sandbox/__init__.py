"""The definition of a sandbox: profile, seccomp filters and the check of the agent's report. Pure."""
