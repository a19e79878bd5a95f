-- Looks into the Python program: box.inspect. Each function needs the right of the command with its name. Tarantool has
-- none of these. Files library/inspect_*.lua add to both tables.
-- Needs: library/box, rights/access
local internal = ...
local raw, access = internal.raw, internal.access
local error, tonumber, type = raw.error, raw.tonumber, raw.type

local services, inspect, commands = {}, {}, {}
for _, name in raw.ipairs({'greenlets', 'where', 'gkill', 'threads'}) do
    services[name] = internal.service(name)
end
_G.box.inspect = inspect

-- The id of a greenlet, as a number or as text.
local function id_of(value, usage)
    local id = (type(value) == 'number' or type(value) == 'string') and tonumber(value)
    if not id then
        return error('Usage: ' .. usage, 0)
    end
    return id
end

-- Adds box.inspect.NAME, for users who may run the command of that name.
local function offer(name, right, func)
    inspect[name] = function(...)
        if not access.may_command(name, right) then
            return access.deny('Execute', 'function', 'box.inspect.' .. name)
        end
        return func(...)
    end
end

local push = _G.box.session.push
local function send(row)
    local ok, problem = push(row)
    if not ok and problem then
        return error(problem, 0)
    end
end

local function send_all(name, right, number, first, next_rows)
    send(first)
    while true do
        local found = next_rows(number)
        -- It may go on for an hour: the right may be gone meanwhile.
        if not access.may_command(name, right) then
            return access.deny('Execute', 'function', 'box.inspect.' .. name)
        end
        for at = 1, #found.rows do
            send(found.rows[at])
        end
        if found.ended then
            return found.ended
        end
    end
end

-- Pushes what comes, until it ends: `opened` has its number and the first row. Returns its last row.
local function follow(name, right, opened, next_rows, close)
    -- A cancelled statement cannot call close(): Python notices that it has ended.
    local ok, ended = internal.task.protected(send_all, name, right, opened.number, opened.first, next_rows)
    if not ok then
        close(opened.number)
        return error(ended, 0)
    end
    return ended
end

-- Groups of greenlets with equal stacks. Each word of `filter` must be part of what a group shows.
offer('greenlets', 'read', function(filter)
    if filter ~= nil and type(filter) ~= 'string' then
        return error('Usage: box.inspect.greenlets("words")', 0)
    end
    return services.greenlets(filter or '')
end)

-- repr() runs code of the program: `read` is not enough.
local function where(id, with_locals, with_repr)
    if with_repr then
        access.need_full('box.inspect.where with repr')
    end
    return services.where(id, with_locals or with_repr, with_repr)
end

offer('where', 'read', function(id, options)
    if options ~= nil and type(options) ~= 'table' then
        return error('Usage: box.inspect.where(id, {locals = true, repr = true})', 0)
    end
    options = options or {}
    return where(id_of(id, 'box.inspect.where(id)'), options.locals == true, options['repr'] == true)
end)

offer('gkill', 'execute', function(id)
    return services.gkill(id_of(id, 'box.inspect.gkill(id)'))
end)

offer('threads', 'read', function()
    return services.threads()
end)

-- The commands. Arguments: the session, the first two words after the name, the rest of the line after the name.
function commands.greenlets(_, _, _, rest)
    return services.greenlets(rest or '')
end

function commands.where(_, id, option, rest)
    local usage = '\\where ID [locals [repr]]'
    id = id_of(id, usage)
    local words = raw.match(rest, '^%s*%S+%s*(.-)%s*$')
    if words ~= '' and words ~= 'locals' and not raw.find(words, '^locals%s+repr$') then
        return error('Usage: ' .. usage, 0)
    end
    return where(id, words ~= '', option == 'locals' and words ~= 'locals')
end

function commands.gkill(_, id)
    return services.gkill(id_of(id, '\\gkill ID'))
end

function commands.threads()
    return services.threads()
end

internal.inspection = {offer = offer, id_of = id_of, follow = follow, commands = commands}
