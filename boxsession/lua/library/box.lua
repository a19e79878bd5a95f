-- box.session, box.info, box.stat and box.cfg. Behaviour and messages: Tarantool 2.6; in the `classic` dialect, the manual
-- page of 1.6.
--
-- A session is a record made by session_new(). Invariant: box.session reads the record of the running task, so it is
-- right in statements, triggers and all code that they call, however the greenlets switch.
-- Needs: kernel/stdlib, library/calls, wire/format
local internal, PUSH, INFO, packed_facts = ...
local raw, task, output = internal.raw, internal.task, internal.output
local error, floor, next, rawget, rawset, select, setmetatable, tonumber, type = raw.error, raw.floor, raw.next,
    raw.rawget, raw.rawset, raw.select, raw.setmetatable, raw.tonumber, raw.type
local NULL = internal.NULL
local current = task.current
local facts = internal.packed.value(packed_facts)
internal.version = facts.version

-- Live sessions by id, and their storages (made at first use). Users can reach the second table, so it is read and written
-- by rawget and rawset: users may set a metatable.
local sessions = {}
local aggregate_storage = {}
internal.sessions = sessions

local function session_of_caller()
    return current().session
end

-- Argument checks with the messages of Tarantool.
local function to_id(value)
    local id = type(value) == 'number' and value or type(value) == 'string' and tonumber(value)
    if not id then
        return error('expected int64_t as -1 argument', 0)
    end
    return floor(id)
end

local function number_argument(name, value)
    local id = type(value) == 'number' and value or type(value) == 'string' and tonumber(value)
    if not id then
        return error("bad argument #1 to '" .. name .. "' (number expected, got " .. type(value) .. ')', 0)
    end
    return floor(id)
end

local session = {}

function session.id()
    return session_of_caller().id
end

function session.exists(...)
    local count = select('#', ...)
    if count > 1 then
        return error('session.exists(sid): bad arguments', 0)
    end
    local me = session_of_caller()
    local id = count == 0 and me.id or to_id((...))
    local known = sessions[id] ~= nil
    if me.dialect == 'classic' then
        return known and 1 or 0
    end
    return known
end

function session.peer(...)
    local count = select('#', ...)
    if count > 1 then
        return error('session.peer(sid): bad arguments', 0)
    end
    local me = session_of_caller()
    -- The session's own record is readable until its end, also in on_disconnect.
    local found = me
    if count == 1 then
        local id = number_argument('peer', (...))
        found = id == me.id and id ~= 0 and me or sessions[id]
    end
    if found == nil or found.id == 0 then
        if me.dialect == 'classic' then
            return '0.0.0.0:0'
        end
        if count == 0 then
            return nil
        end
        return error('session.peer(): session does not exist', 0)
    end
    return found.peer
end

-- A function that returns a field of this session, or of the one with the given id.
local function field_of(name)
    return function(...)
        local count = select('#', ...)
        if count > 1 then
            return error('session.' .. name .. '(sid): bad arguments', 0)
        end
        local me = session_of_caller()
        if count == 0 then
            return me[name]
        end
        local id = to_id((...))
        local found = id == me.id and me or sessions[id]
        if not found then
            return error('session.' .. name .. '(): session does not exist', 0)
        end
        return found[name]
    end
end

session.fd = field_of('fd')
-- The process of the client: known on unix sockets, otherwise nil.
session.peer_uid, session.peer_pid = field_of('peer_uid'), field_of('peer_pid')

-- The sync of the running request; 0 in text sessions.
function session.sync()
    local sync = current().sync
    return sync and (internal.msgpack.decode(sync, 1, 0)) or 0
end

function session.type()
    return session_of_caller().type
end

local function push(record, value)
    task.block(PUSH, output.push(record, value))
end
internal.push = push

-- Sends a document to this session's client, before the statement's reply.
function session.push(...)
    if select('#', ...) ~= 1 then
        return error('Usage: box.session.push(data)', 0)
    end
    local me = session_of_caller()
    if me.type == 'binary' and current().sync then
        local ok, packed = task.protected(internal.msgpack.encode_list, (...))
        if not ok then
            return nil, packed
        end
        task.block(PUSH, packed)
        return true
    end
    if me.type ~= 'console' then
        return nil, "Session '" .. me.type .. "' does not support push()"
    end
    if me.ended then
        return nil, 'Session is closed'
    end
    push(me, (...))
    return true
end

-- Storage -------------------------------------------------------------------------------------------------------------

-- A fiber can outlive its session. It then gets a storage that is only in the session's record, and is freed with it.
local function known_storage(me)
    return me.orphaned or rawget(aggregate_storage, me.id)
end

-- Sets the storage to `value` if it has none or `replaces` is true. Returns the storage.
local function set_storage(me, value, replaces)
    task.lock()
    local kept = not replaces and known_storage(me) or value
    if me.ended then
        me.orphaned = kept
    else
        rawset(aggregate_storage, me.id, kept)
    end
    task.unlock()
    return kept
end

-- set_storage() is atomic, since two fibers of a session may ask first.
local function storage()
    local me = session_of_caller()
    return known_storage(me) or set_storage(me, {}, false)
end

setmetatable(session, {
    aggregate_storage = aggregate_storage,
    __index = function(_, key)
        if key == 'storage' then
            return storage()
        end
    end,
    -- compat: in Tarantool this assignment replaces `storage` for all sessions.
    __newindex = function(_, key, value)
        if key ~= 'storage' then
            -- Never another table: users can call this function with _G.
            return rawset(session, key, value)
        end
        if type(value) ~= 'table' then
            return error('box.session.storage must be a table, not a ' .. type(value), 2)
        end
        set_storage(session_of_caller(), value, true)
    end,
})

-- box -----------------------------------------------------------------------------------------------------------------

-- A read-only table. field(key) returns one field, all() all of them; `call` is its __call.
local function read_only(name, field, all, call)
    return setmetatable({}, {
        __call = call and function(_, ...)
            return call(...)
        end,
        __index = function(_, key)
            return field(key)
        end,
        __newindex = function()
            return error('Attempt to modify a read-only table: ' .. name, 2)
        end,
        __serialize = all,
    })
end

local started = raw.time()
local information = {
    version = facts.version, pid = facts.pid, status = 'running', ro = false, package = 'boxsession',
    languages = function() return internal.packed.value(packed_facts).languages end,
    uptime = function() return raw.time() - started end,
    listen = function() return internal.packed.value(task.text(INFO, 'listen')) end,
    sessions = function() return internal.packed.value(task.text(INFO, 'sessions')) end,
    memory = function() return {lua = internal.packed.value(task.text(INFO, 'memory'))} end,
    limits = function() return internal.packed.value(task.text(INFO, 'limits')) end,
    exposed = function() return internal.exposed.lines() end,
    access = function() return internal.packed.value(task.text(INFO, 'access')) end,
}
local function information_of(key)
    local value = information[key]
    if type(value) == 'function' then
        return value()
    end
    return value
end
local function all_information()
    local shown = {}
    for key in next, information do
        shown[key] = information_of(key)
    end
    if next(shown.exposed) == nil then
        shown.exposed = nil
    end
    return shown
end

-- The numbers of boxsession/operations/statistics.py; `net` is Tarantool's box.stat.net without the rates. reset() begins
-- the sums anew.
local function statistics()
    return internal.packed.value(task.text(INFO, 'statistics'))
end
local function total(counted)
    return {total = counted.console + counted.binary}
end
local function net()
    local all = statistics()
    local connections = total(all.sessions.started)
    connections.current = all.sessions.current
    local requests = total(all.statements)
    requests.current = total(all.running).total
    return {CONNECTIONS = connections, REQUESTS = requests, RECEIVED = total(all.bytes_in), SENT = total(all.bytes_out)}
end
local net_statistics = read_only('box.stat.net', function(key) return net()[key] end, net, net)
local reset_statistics = internal.service('reset_statistics')
local function reset()
    internal.access.need_full('box.stat.reset')
    reset_statistics()
end
local function statistics_of(key)
    if key == 'net' then
        return net_statistics
    elseif key == 'reset' then
        return reset
    end
    return statistics()[key]
end

local settings, configure = internal.service('settings'), internal.service('configure')

-- Changes settings of the running server, all of them or none: box.cfg{limits = {slice_ms = 10}}.
local function change(changes)
    if changes == nil then
        return
    end
    internal.access.need_full('box.cfg')
    if type(changes) ~= 'table' then
        return error('box.cfg{}: expected a table of settings, as in box.cfg{limits = {slice_ms = 10}}', 0)
    end
    for key in next, changes do
        if type(key) ~= 'string' then
            return internal.raise('CFG', raw.tostring(key), 'unexpected option')
        end
    end
    local problem = next(changes) ~= nil and configure(changes)
    if problem and problem.reason == NULL then
        return internal.raise('RELOAD_CFG', problem.name)
    elseif problem then
        return internal.raise('CFG', problem.name, problem.reason)
    end
end

_G.box = {
    NULL = NULL,
    session = session,
    info = read_only('box.info', information_of, all_information, all_information),
    stat = read_only('box.stat', statistics_of, statistics, statistics),
    cfg = read_only('box.cfg', function(key) return settings()[key] end, function() return settings() end, change),
}

-- In the `classic` dialect `session` is a global; in the tarantool dialect it is not. Globals are shared by all sessions,
-- so a metamethod finds this name for sessions of the classic dialect only.
local globals = _G
local classic = {}
internal.classic_globals = classic
function classic.__index(_, name)
    if name == 'session' and session_of_caller().dialect == 'classic' then
        return session
    end
end

-- Life of a session ---------------------------------------------------------------------------------------------------

function internal.session_new(id, fd, peer, user, uid, dialect, kind, peer_uid, peer_pid)
    local record = {id = id, fd = fd, peer = peer, peer_uid = peer_uid, peer_pid = peer_pid, user = user, uid = uid, login = uid, dialect = dialect, type = kind,
                    output = internal.default_output(), eos = ';', delimiter = '', chosen_scope = false}
    internal.access.begin(record)
    sessions[id] = record
    if dialect == 'classic' and raw.getmetatable(globals) == nil then
        setmetatable(globals, classic)
    end
    return record
end

function internal.session_end(record)
    record.ended = true
    sessions[record.id] = nil
    rawset(aggregate_storage, record.id, nil)
end
