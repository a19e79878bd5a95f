-- Lists, names, cancels and ends sessions: box.session.list, name, cancel and kill. Tarantool has none of these.
-- Needs: library/box, rights/access
local internal = ...
local raw, task = internal.raw, internal.task
local error, tonumber, type = raw.error, raw.tonumber, raw.type
local list, cancel, kill, rename = internal.service('sessions'), internal.service('cancel'), internal.service('kill'),
    internal.service('rename')
local session = _G.box.session

local function id_of(value, usage)
    local id = (type(value) == 'number' or type(value) == 'string') and tonumber(value)
    if not id then
        return error(usage, 0)
    end
    return id
end

-- Lists the live sessions, or those whose fields equal the filter's; idle_s and connected_s in a filter are minimums.
function session.list(filter)
    if filter ~= nil and type(filter) ~= 'table' then
        return error('Usage: box.session.list({field = value})', 0)
    end
    internal.access.need_full('box.session.list')
    return list(filter or {})
end

-- Reads or sets this session's name, which box.session.list() shows.
function session.name(text)
    local me = task.current().session
    if text ~= nil then
        if type(text) ~= 'string' then
            return error('Usage: box.session.name(text)', 0)
        end
        if me.id == 0 then
            return error('box.session.name(): there is no session here', 0)
        end
        me.name = rename(text)
    end
    return me.name or ''
end

local CANCEL_USAGE, KILL_USAGE = 'Usage: box.session.cancel(id)',
    'Usage: box.session.kill(id or {field = value}, {timeout = seconds})'

-- Cancels the statement that a session runs. Returns whether it ran one.
function session.cancel(id)
    internal.access.need_full('box.session.cancel')
    return cancel(id_of(id, CANCEL_USAGE))
end

-- Ends a session by id, or all that a filter finds except the calling session. Waits for their end, up to the timeout in
-- seconds, and returns how many have ended.
function session.kill(which, options)
    internal.access.need_full('box.session.kill')
    if type(which) ~= 'table' then
        which = id_of(which, KILL_USAGE)
    end
    local timeout
    if options ~= nil then
        timeout = type(options) == 'table' and options.timeout or nil
        if type(timeout) ~= 'number' or timeout < 0 or timeout ~= timeout then
            return error(KILL_USAGE, 0)
        end
    end
    return kill(which, timeout)
end
