-- What an execution in a state counts as, and the index in which it then stands.
local CLASSES = {queued = 'queued', starting = 'active', running = 'active'}
local KEY_OF_CLASS = {queued = QUEUED, active = ACTIVE}
