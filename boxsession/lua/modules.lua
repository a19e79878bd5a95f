-- require() and the small modules that statements load with it: log, clock.
local internal, LOG, CLOCK = ...
local raw, output = internal.raw, internal.output
local error, format, select, tostring, type = raw.error, raw.format, raw.select, raw.tostring, raw.type

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

for _, name in raw.ipairs({'string', 'table', 'math', 'os', 'coroutine', 'debug', 'box'}) do
    modules[name] = _G[name]
end

-- log -----------------------------------------------------------------------------------------------------------------

local log = {}
modules.log = log

local function log_line(level)
    return function(first, ...)
        local text
        if type(first) == 'string' and select('#', ...) > 0 then
            text = format(first, ...)
        elseif type(first) == 'table' then
            text = output.flat(first)
        else
            text = tostring(first)
        end
        local _ = LOG[level .. ':' .. text]
    end
end
log.error, log.warn, log.info = log_line('error'), log_line('warning'), log_line('info')
log.verbose, log.debug = log_line('info'), log_line('debug')

function _G.print(...)
    local pieces = {}
    for index = 1, select('#', ...) do
        pieces[index] = tostring((select(index, ...)))
    end
    local _ = LOG['info:' .. raw.concat(pieces, '\t')]
end

-- Levels by Tarantool's numbers and names, as Python's logging names them.
local LEVELS = {[0] = 'critical', 'critical', 'error', 'critical', 'warning', 'info', 'info', 'debug'}
local LEVEL_NAMES = {fatal = 0, syserror = 1, error = 2, crit = 3, warn = 4, info = 5, verbose = 6, debug = 7}

-- Sets what is logged, for all sessions.
function log.level(level)
    local number = LEVEL_NAMES[level] or level
    if type(number) ~= 'number' then
        return error('must be a number or a string', 0)
    end
    if LEVELS[number] == nil then
        return error('log.level(): expected 0 to 7, or one of fatal, syserror, error, crit, warn, info, verbose, debug', 0)
    end
    local _ = LOG['level:' .. LEVELS[number]]
end

-- There is no logger process to tell, and SIGHUP rotates.
function log.pid()
    return 0
end
log.logger_pid = log.pid

-- clock ---------------------------------------------------------------------------------------------------------------

local REALTIME, MONOTONIC, PROCESS, THREAD = 0, 1, 2, 3

local clock = {}
modules.clock = clock
for name, which in raw.next, {time = REALTIME, realtime = REALTIME, monotonic = MONOTONIC, proc = PROCESS,
                              thread = THREAD} do
    clock[name] = function()
        return CLOCK[which]
    end
    -- Nanoseconds; a number, exact to 2^53.
    clock[name .. '64'] = function()
        return raw.floor(CLOCK[which] * 1e9)
    end
end

-- Seconds of CPU that a call took, and what it returned, in a list.
function clock.bench(func, ...)
    local started = CLOCK[PROCESS]
    return (function(...)
        return {CLOCK[PROCESS] - started, ...}
    end)(func(...))
end
