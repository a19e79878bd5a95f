-- The event loop: box.inspect.loop() and \loop.
-- Needs: library/inspect
local internal = ...
local inspection, loop = internal.inspection, internal.service('loop')

inspection.offer('loop', 'read', function()
    return loop()
end)

function inspection.commands.loop()
    return loop()
end
