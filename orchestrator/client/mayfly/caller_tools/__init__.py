"""Tools that a client fulfils itself: functions here that a program in a sandbox can call."""
