-- Looks into the memory of the process: box.inspect.memory() and \memory.
-- Needs: library/inspect
local internal = ...
local raw, access, inspection = internal.raw, internal.access, internal.inspection
local error, gmatch, match, tonumber, type = raw.error, raw.gmatch, raw.match, raw.tonumber, raw.type

local memory, types, who = internal.service('memory'), internal.service('memory_types'), internal.service('memory_who')
local start, diff, stop = internal.service('trace_start'), internal.service('trace_diff'), internal.service('trace_stop')

local USAGE = 'Usage: \\memory, \\memory types [N], \\memory who TYPE, or \\memory trace start|diff|stop'
local TRACE_USAGE = 'Usage: \\memory trace start [keep] [force], \\memory trace diff [N] [force], or \\memory trace stop'

-- The words of a line as a set, and its number. `known` are the words that may be there.
local function options(line, known, takes_number)
    local found, number = {}, nil
    for word in gmatch(line, '%S+') do
        if takes_number and tonumber(word) and not number then
            number = tonumber(word)
        elseif known[word] then
            found[word] = true
        else
            return error(TRACE_USAGE, 0)
        end
    end
    return found, number
end

-- Tracing makes the program slower: it needs `execute`, which the rest does not.
local function trace(line)
    if not access.may_command('memory', 'execute') then
        return access.deny('Execute', 'command', 'memory trace')
    end
    local what, rest = match(line, '^(%S*)%s*(.*)$')
    if what == 'start' then
        local found = options(rest, {keep = true, force = true})
        return start(found.keep == true, found.force == true)
    elseif what == 'diff' then
        local found, number = options(rest, {force = true}, true)
        return diff(number, found.force == true)
    elseif what == 'stop' and rest == '' then
        return stop()
    end
    return error(TRACE_USAGE, 0)
end

local function run(line)
    local what, rest = match(line, '^(%S*)%s*(.-)%s*$')
    if what == '' then
        return memory()
    elseif what == 'types' and (rest == '' or tonumber(rest)) then
        return types(tonumber(rest))
    elseif what == 'who' and match(rest, '^%S+$') then
        return who(rest)
    elseif what == 'trace' then
        return trace(rest)
    end
    return error(USAGE, 0)
end

-- `line`: what stands after \memory.
inspection.offer('memory', 'read', function(line)
    if line ~= nil and type(line) ~= 'string' then
        return error('Usage: box.inspect.memory("types 20"): the words of \\memory', 0)
    end
    return run(line or '')
end)

function inspection.commands.memory(_, _, _, rest)
    return run(rest or '')
end
