-- The counter of an execution in a state, and its index.
local CLASSES = {queued = 'queued', starting = 'active', running = 'active'}
local KEY_OF_CLASS = {queued = QUEUED, active = ACTIVE}
