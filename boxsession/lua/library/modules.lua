-- require() and the clock module.
-- Needs: kernel/stdlib, library/box
local internal, CLOCK = ...
local raw = internal.raw
local error, type = raw.error, raw.type

local modules = {}
internal.modules = modules

function _G.require(name)
    if type(name) ~= 'string' then
        return error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ')', 2)
    end
    local found = modules[name]
    if found == nil then
        return error("module '" .. name .. "' not found: modules are built in here, none is loaded from files", 2)
    end
    return found
end

for _, name in raw.ipairs({'string', 'table', 'math', 'os', 'coroutine', 'debug', 'bit', 'box'}) do
    modules[name] = _G[name]
end

modules['table.clear'], modules['table.new'] = table.clear, table.new

-- clock ---------------------------------------------------------------------------------------------------------------

local contract = internal.contract
local REALTIME, MONOTONIC, PROCESS, THREAD = contract.REALTIME, contract.MONOTONIC, contract.PROCESS, contract.THREAD

local clock = {}
modules.clock = clock
for name, which in raw.next, {time = REALTIME, realtime = REALTIME, monotonic = MONOTONIC, proc = PROCESS,
                              thread = THREAD} do
    clock[name] = function()
        return CLOCK[which]
    end
    -- Nanoseconds. The result is a Lua number, exact up to 2^53.
    clock[name .. '64'] = function()
        return raw.floor(CLOCK[which] * 1e9)
    end
end

-- A list of the CPU time that a call took, in seconds, and its results.
function clock.bench(func, ...)
    local started = CLOCK[PROCESS]
    return (function(...)
        return {CLOCK[PROCESS] - started, ...}
    end)(func(...))
end
