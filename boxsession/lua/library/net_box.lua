-- The module net.box: a client of other servers, over the binary protocol. Behaviour and messages: Tarantool 2.6.
--
-- Python has the connections (sessions/netbox.py), by number. Requests and responses cross as msgpack, which is written and
-- read here, in the turns of the caller.
-- Needs: library/calls, library/fiber, library/uri
local internal, LOG = ...
local raw, task, NULL = internal.raw, internal.task, internal.NULL
local error, format, next, pairs, rawget, setmetatable, tonumber, type = raw.error, raw.format, raw.next, raw.pairs,
    raw.rawget, raw.setmetatable, raw.tonumber, raw.type
local new_fiber, parse_uri = internal.modules.fiber.create, internal.modules.uri.parse
local open, close, state_of_number = internal.service('netbox_open'), internal.service('netbox_close'),
    internal.service('netbox_state')
local wait_state, wait_event = internal.service('netbox_wait_state'), internal.service('netbox_event')

local netbox = {}
internal.modules['net.box'] = netbox

local CONNECT_SECONDS = 10
local USAGE = 'usage: connect(uri[, opts] | host, port[, opts])'

-- What the module knows of a connection: {number, options, on_connect, on_disconnect}. Weak, so that a connection that
-- nobody has any more can be closed: `in_use` then has no table for its number.
local records = setmetatable({}, {__mode = 'k'})
local in_use = setmetatable({}, {__mode = 'v'})
local numbers = {}                      -- of connections that have not been closed

local methods = {}

local function record_of(connection, name)
    local record = records[connection]
    if not record then
        return error(format('Use remote:%s(...) instead of remote.%s(...):', name, name), 0)
    end
    return record
end

-- Connecting -----------------------------------------------------------------------------------------------------------

-- A timer takes no infinity.
local LONGEST = 1e9
local function shortened(seconds)
    return seconds and seconds > LONGEST and LONGEST or seconds
end

local function seconds_option(options, name)
    local value = options[name]
    if value ~= nil and (type(value) ~= 'number' or value ~= value or value < 0) then
        return error('net.box: ' .. name .. ' must be a number of seconds', 0)
    end
    return shortened(value)
end

-- Closes connections that nobody has any more.
local function close_unused()
    for number in pairs(numbers) do
        if not in_use[number] then
            numbers[number] = nil
            close(number)
        end
    end
end

-- The parts of the address in the arguments, and the options.
local function address_of(first, second, third)
    local is_first, is_second = type(first) == 'string' or type(first) == 'number',
        type(second) == 'string' or type(second) == 'number'
    if is_first and is_second then
        return {host = first .. '', service = second .. ''}, third
    end
    local parts = is_first and parse_uri(first .. '')
    if not parts or not parts.service then
        return error(USAGE, 0)
    end
    return parts, second
end

local FIELDS = {state = true, error = true, peer_uuid = true, peer_version_id = true}
local connection_meta = {__metatable = false}

local function shown_state(record)
    return state_of_number(record.number)
end

function connection_meta.__index(connection, key)
    local method = methods[key]
    if method ~= nil then
        return method
    end
    local record = records[connection]
    if record and FIELDS[key] then
        local value = shown_state(record)[key]
        return value ~= NULL and value or nil
    end
end

function connection_meta.__serialize(connection)
    local record = records[connection]
    local copy = {host = rawget(connection, 'host'), port = rawget(connection, 'port'),
                  protocol = rawget(connection, 'protocol'),
                  opts = next(record.options) ~= nil and record.options or nil}
    for key, value in next, shown_state(record) do
        copy[key] = value ~= NULL and value or nil
    end
    return copy
end

-- Connects to a server. The error of an attempt that failed is in the fields `state` and `error`.
function netbox.connect(...)
    local parts, options = address_of(...)
    if options == nil then
        options = {}
    elseif type(options) ~= 'table' then
        return error(USAGE, 0)
    end
    local user, password = options.user, options.password
    if user == nil and password ~= nil then
        return error('net.box: user is not defined', 0)
    elseif user == nil then
        user, password = parts.login, parts.password
    end
    local timeout, reconnect = seconds_option(options, 'connect_timeout'), seconds_option(options, 'reconnect_after')
    close_unused()
    local connection = setmetatable({host = parts.host, port = parts.service, protocol = 'Binary', opts = options},
                                    connection_meta)
    local record = {options = options}
    task.to_the_end(function()
        record.number = open(parts.host or '', parts.service, user or '', password or '', timeout or CONNECT_SECONDS,
                             reconnect)
        records[connection], in_use[record.number], numbers[record.number] = record, connection, true
    end)
    local patience = options.wait_connected
    if patience ~= false then
        wait_state(record.number, {'active'}, type(patience) == 'number' and shortened(patience) or nil)
    end
    return connection
end
netbox.new = netbox.connect

-- States ---------------------------------------------------------------------------------------------------------------

function methods.is_connected(connection)
    return shown_state(record_of(connection, 'is_connected')).state == 'active'
end

-- States: a name, a list of names, or a table of {name = true}.
function methods.wait_state(connection, states, seconds)
    local record, wanted = record_of(connection, 'wait_state'), {}
    if type(states) ~= 'table' then
        wanted[1] = raw.tostring(states)
    else
        for key, value in next, states do
            wanted[#wanted + 1] = type(key) == 'string' and key or raw.tostring(value)
        end
    end
    return wait_state(record.number, wanted, shortened(tonumber(seconds)))
end
function methods.wait_connected(connection, seconds)
    return methods.wait_state(connection, 'active', seconds)
end

-- There is no schema to load: the methods of spaces are not supported.
function methods.reload_schema(connection)
    record_of(connection, 'reload_schema')
end

function methods.close(connection)
    local record = record_of(connection, 'close')
    numbers[record.number] = nil
    close(record.number)
end

-- Triggers -------------------------------------------------------------------------------------------------------------

-- Runs the triggers of a connection, in a fiber that ends with it.
local function watch(record, connection)
    if record.is_watched then
        return
    end
    record.is_watched = true
    record.connection = connection          -- it stays as long as it is open
    new_fiber(function()
        while true do
            local event = wait_event(record.number)
            if event == nil or event == NULL then
                break
            end
            for _, trigger in raw.ipairs(record['on_' .. event] or {}) do
                local ok, problem = task.protected(trigger, connection)
                if not ok then
                    local _ = LOG['report:net.box: a trigger raised: ' .. raw.tostring(problem)]
                end
            end
        end
        record.connection = nil
    end)
end

-- As box.session.on_connect: adds, replaces, deletes or lists triggers.
for _, name in raw.ipairs({'on_connect', 'on_disconnect'}) do
    methods[name] = function(connection, new, old)
        local record = record_of(connection, name)
        local list = {}
        for _, trigger in raw.ipairs(record[name] or {}) do
            if trigger == old then
                trigger, new = new, nil
            end
            list[#list + 1] = trigger
        end
        if new == nil and old == nil then
            return list
        elseif type(new) == 'function' then
            raw.insert(list, 1, new)
        end
        record[name] = list
        watch(record, connection)
        return new
    end
end

internal.netbox_methods, internal.netbox_record, internal.netbox_shortened = methods, record_of, shortened
