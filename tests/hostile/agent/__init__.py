"""Programs that attack what stands around them: the agent, its channel, their own inputs and outputs."""
