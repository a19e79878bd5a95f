-- The module log, and print. Behaviour and messages: Tarantool 2.6, except that print can write to the session.
-- Needs: library/calls, library/modules
local internal, LOG = ...
local raw, task = internal.raw, internal.task
local error, format, next, select, setmetatable, tostring, type = raw.error, internal.format, raw.next, raw.select,
    raw.setmetatable, raw.tostring, raw.type
local configure, settings = internal.service('configure'), internal.service('settings')

local log = {}
internal.modules.log = log

-- `name`: of a logger; '' for none.
local function log_line(level, name)
    local head = level .. ':' .. (name == '' and '' or '[' .. name .. '] ')
    return function(...)
        local first = ...
        local count = select('#', ...)
        if count == 0 then
            return
        end
        local text
        if type(first) == 'string' and count > 1 then
            text = format(...)
        elseif type(first) == 'table' then
            text = internal.json_text(first)
        else
            text = tostring(first)
        end
        local _ = LOG[head .. text]
    end
end
local LINES = {error = 'error', warn = 'warning', info = 'info', verbose = 'info', debug = 'debug'}
for name, level in next, LINES do
    log[name] = log_line(level, '')
end

-- A logger whose lines begin with its name, as in Tarantool 2.11.
function log.new(name)
    if type(name) ~= 'string' or name == '' then
        return error('Illegal parameters, name should be a string', 0)
    end
    local logger = {name = name}
    for method, level in next, LINES do
        logger[method] = log_line(level, name)
    end
    return logger
end

-- Writes to the log or, after `\set print on`, to the session, as a push.
function _G.print(...)
    local pieces = {}
    for index = 1, select('#', ...) do
        local text = tostring((select(index, ...)))
        if type(text) ~= 'string' and type(text) ~= 'number' then
            return error("'tostring' must return a string to 'print'", 2)
        end
        pieces[index] = text
    end
    local text = raw.concat(pieces, '\t')
    local session = task.current().session
    if session.prints and not session.ended then
        internal.push(session, text)
        return
    end
    local _ = LOG['info:' .. text]
end

-- Tarantool's level numbers and names -> values of our setting. A level that the setting does not have becomes another:
-- fatal, syserror and crit become error, verbose becomes info.
local LEVELS = {[0] = 'error', 'error', 'error', 'error', 'warning', 'info', 'info', 'debug'}
local NUMBERS = {error = 2, warning = 4, info = 5, debug = 7}
local NAMED = {fatal = 0, syserror = 1, error = 2, crit = 3, warn = 4, info = 5, verbose = 6, debug = 7}
local EXPECTED = 'expected crit,warn,info,debug,syserror,verbose,fatal,error'

-- Sets the log level of all sessions.
function log.level(level)
    if type(level) ~= 'number' and type(level) ~= 'string' then
        return error('must be a number or a string', 0)
    end
    local name = LEVELS[NAMED[level] or level]
    if not name then
        return error(type(level) == 'string' and EXPECTED or 'must be a number from 0 to 7', 0)
    end
    configure({['log.level'] = name})
end

-- Sets the log format of all sessions.
function log.log_format(name)
    if name ~= 'json' and name ~= 'plain' then
        return error('expected json,plain', 0)
    end
    configure({['log.format'] = name == 'json' and 'json' or 'text'})
end

-- Reopens the log file, after it was moved by a log rotation.
function log.rotate()
    internal.service('reopen_log')()
end

-- 0, since no logger process is used.
function log.pid()
    return 0
end

-- The log settings under Tarantool's names. A call changes them.
log.cfg = setmetatable({}, {
    __index = function(_, key)
        local now = settings().log
        if key == 'level' then
            return NUMBERS[now.level]
        elseif key == 'format' then
            return now.format == 'json' and 'json' or 'plain'
        elseif key == 'log' then
            return now.file
        end
    end,
    __newindex = function()
        return error('log.cfg is read-only: call log.cfg{level = ..., format = ...} to change it', 2)
    end,
    __serialize = function(self)
        return {level = self.level, format = self.format, log = self.log}
    end,
    __call = function(_, changes)
        if type(changes) ~= 'table' then
            return error('log.cfg{}: expected a table of settings', 0)
        end
        for key, value in next, changes do
            if key == 'level' then
                log.level(value)
            elseif key == 'format' then
                log.log_format(value)
            else
                return internal.raise('RELOAD_CFG', tostring(key))
            end
        end
    end,
})
