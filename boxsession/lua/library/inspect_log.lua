-- The program's log levels, and what sessions have changed in the program: box.inspect.log and changes.
-- Needs: library/inspect
local internal = ...
local raw, access, inspection = internal.raw, internal.access, internal.inspection
local error, gmatch, select, tonumber, type = raw.error, raw.gmatch, raw.select, raw.tonumber, raw.type
local offer, commands = inspection.offer, inspection.commands

local levels, set_level, changes, undo = internal.service('log_levels'), internal.service('log_set'),
    internal.service('changes'), internal.service('undo')

-- Who may see the levels may not change them.
local function need_execute(name, what)
    if not access.may_command(name, 'execute') then
        return access.deny('Execute', 'command', what)
    end
end

local LOG_USAGE = 'Usage: \\log [FILTER], or \\log LOGGER LEVEL [for TIME] [keep], such as: \\log shop.orders debug for 10m'
local LOG_FUNCTION = 'Usage: box.inspect.log(["filter"]), or box.inspect.log("logger", "level", {time = "10m", keep = true})'

local function change(name, level, time, keep)
    need_execute('log', 'log')
    return set_level(name, level, time, keep)
end

offer('log', 'read', function(...)
    local name, level, options = ...
    if select('#', ...) > 3 or name ~= nil and type(name) ~= 'string'
        or level ~= nil and type(level) ~= 'string' and type(level) ~= 'number'
        or options ~= nil and (type(options) ~= 'table' or level == nil) or level ~= nil and name == nil then
        return error(LOG_FUNCTION, 0)
    end
    if level == nil then
        return levels(name or '')
    end
    options = options or {}
    local time, keep = options.time, options.keep
    if time ~= nil and type(time) ~= 'string' and type(time) ~= 'number' or keep ~= nil and type(keep) ~= 'boolean' then
        return error(LOG_FUNCTION, 0)
    end
    return change(name, level .. '', time, keep or false)
end)

function commands.log(_, name, level, rest)
    if level == nil then
        return levels(name or '')
    end
    local words = gmatch(rest, '%S+')
    local _, _, word = words(), words(), words()
    local time, keep = nil, false
    if word == 'for' then
        time = words()
        if time == nil then
            return error(LOG_USAGE, 0)
        end
        word = words()
    end
    if word == 'keep' then
        keep, word = true, words()
    end
    if word ~= nil then
        return error(LOG_USAGE, 0)
    end
    return change(name, level, time, keep)
end

-- What sessions have changed. `which`: a number, or 'all' changes of this session.
local function undo_some(which, usage)
    local number = which ~= 'all' and tonumber(which) or nil
    if not number and which ~= 'all' then
        return error(usage, 0)
    end
    need_execute('changes', 'changes undo')
    return undo(number, access.rights(access.effective().uid).level == access.FULL)
end

offer('changes', 'read', function(options)
    local usage = 'Usage: box.inspect.changes(), or box.inspect.changes({undo = id or "all"})'
    if options == nil then
        return changes()
    end
    local which = type(options) == 'table' and options.undo
    if type(which) ~= 'number' and type(which) ~= 'string' then
        return error(usage, 0)
    end
    return undo_some(which, usage)
end)

function commands.changes(_, word, which)
    if word == nil then
        return changes()
    end
    local usage = 'Usage: \\changes, or \\changes undo N|all'
    if word ~= 'undo' or which == nil then
        return error(usage, 0)
    end
    return undo_some(which, usage)
end
