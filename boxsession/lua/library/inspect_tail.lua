-- Follows the program's log: box.inspect.tail and \tail.
-- Needs: library/inspect
local internal = ...
local raw, inspection = internal.raw, internal.inspection
local error, match, next, tonumber, type = raw.error, raw.match, raw.next, raw.tonumber, raw.type

local open, next_rows, close = internal.service('tail_open'), internal.service('tail_next'), internal.service('tail_close')

local FUNCTION = 'Usage: box.inspect.tail({logger = name, level = name, match = text, n = number, seconds = number})'
local COMMAND = 'Usage: \\tail [LOGGER] [level=LEVEL] [match=TEXT] [n=NUMBER] [seconds=NUMBER], such as: \\tail shop '
    .. 'level=debug match="not paid"'

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
    return inspection.follow('tail', 'read', opened, next_rows, close)
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
