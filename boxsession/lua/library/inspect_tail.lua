-- Follows the program's log: box.inspect.tail and \tail.
-- Needs: library/inspect
local internal = ...
local raw, inspection, protected = internal.raw, internal.inspection, internal.task.protected
local error, match, next, tonumber, type = raw.error, raw.match, raw.next, raw.tonumber, raw.type

local open, next_rows, close = internal.service('tail_open'), internal.service('tail_next'), internal.service('tail_close')
local push = _G.box.session.push

local FUNCTION = 'Usage: box.inspect.tail({logger = name, level = name, match = text, n = number, seconds = number})'
local COMMAND = 'Usage: \\tail [LOGGER] [level=LEVEL] [match=TEXT] [n=NUMBER] [seconds=NUMBER], such as: \\tail shop '
    .. 'level=debug match="not paid"'

local function send(row)
    local ok, problem = push(row)
    if not ok and problem then
        return error(problem, 0)
    end
end

local function follow(number, first)
    send(first)
    while true do
        local found = next_rows(number)
        for at = 1, #found.rows do
            send(found.rows[at])
        end
        if found.ended then
            return found.ended
        end
    end
end

local KINDS = {logger = 'string', level = 'string', match = 'string', n = 'number', seconds = 'number'}

local function tail(options, usage)
    for name, value in next, options do
        if name == 'level' and type(value) == 'number' then
            options.level = value .. ''
        elseif KINDS[name] == nil or type(value) ~= KINDS[name] then
            return error(usage, 0)
        end
    end
    local opened = open(options.logger or 'root', options.level, options.match, options.n, options.seconds)
    -- A cancelled statement cannot call close(): Python notices that it has ended.
    local ok, ended = protected(follow, opened.number, opened.first)
    if not ok then
        close(opened.number)
        return error(ended, 0)
    end
    return ended
end

inspection.offer('tail', 'read', function(options)
    if options ~= nil and type(options) ~= 'table' then
        return error(FUNCTION, 0)
    end
    local copy = {}
    for name, value in next, options or {} do
        copy[name] = value
    end
    return tail(copy, FUNCTION)
end)

function inspection.commands.tail(_, _, _, line)
    local options = {}
    while line and line ~= '' do
        local name, value, rest = match(line, '^(%l+)="([^"]*)"%s*(.*)$')
        if not name then
            name, value, rest = match(line, '^(%l+)=([^%s"]%S*)%s*(.*)$')
        end
        if not name then
            name, value, rest = 'logger', match(line, '^([^%s=]+)%s*(.*)$')
        end
        if not value or options[name] ~= nil then
            return error(COMMAND, 0)
        end
        if KINDS[name] == 'number' then
            value = tonumber(value)
        end
        options[name], line = value, rest
        if value == nil then
            return error(COMMAND, 0)
        end
    end
    return tail(options, COMMAND)
end
