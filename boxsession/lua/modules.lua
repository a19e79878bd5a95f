-- require() and the small modules that statements load with it: log, console.
local internal, LOG, DELIMITER = ...
local raw, task, output = internal.raw, internal.task, internal.output
local error, format, pcall, select, setmetatable, tostring, type = raw.error, raw.format, raw.pcall, raw.select,
    raw.setmetatable, raw.tostring, raw.type

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

-- console -------------------------------------------------------------------------------------------------------------

local console = {}
modules.console = console

-- Reads or sets what ends a statement of this session ('' for the end of the line).
local function delimiter(text)
    local session = task.current().session
    if session.type ~= 'console' then
        return error('console.delimiter(): need existing console', 0)
    end
    if text == nil then
        return session.delimiter
    end
    if type(text) ~= 'string' or raw.find(text, '[\r\n]') then
        return error('invalid delimiter', 0)
    end
    session.delimiter = text
    local _ = DELIMITER[text]
end
console.delimiter, internal.delimiter = delimiter, delimiter
