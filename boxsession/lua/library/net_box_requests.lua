-- The module net.box, second part: requests, their responses, and futures.
-- Needs: kernel/requests, library/calls, library/errors, library/msgpack, library/net_box
local internal, CLOCK = ...
local raw, task, NULL = internal.raw, internal.task, internal.NULL
local error, format, setmetatable, tonumber, type, unpack = raw.error, raw.format, raw.setmetatable, raw.tonumber, raw.type,
    raw.unpack
local decode, encode = internal.msgpack.decode, internal.msgpack.encode
local raise_object, remote_error, MONOTONIC = internal.raise_object, internal.remote_error, internal.contract.MONOTONIC
local load_string = loadstring          -- the users' one
local USE_A_LIST = 'Use remote:%s(%s, {arg1, arg2, ...}, opts) instead of remote:%s(%s, arg1, arg2, ...)'
local ask, wait, discard = internal.service('netbox_ask'), internal.service('netbox_wait'), internal.service('netbox_discard')
local netbox, methods, record_of = internal.modules['net.box'], internal.netbox_methods, internal.netbox_record

-- Responses ------------------------------------------------------------------------------------------------------------

-- The values of a response, as a list and their number.
local INVALID_MSGPACK = 20
local function values_of(response)
    if response.data == '' then
        return {}, 0
    end
    local list = decode(response.data, 1, 0)
    if type(list) ~= 'table' then
        return raise_object(remote_error(INVALID_MSGPACK, 'Invalid MsgPack - packet body', ''))
    end
    return list, #list
end

local function error_of(response)
    return remote_error(response.code, response.message, response.type)
end

local TIMEOUT = {code = 78, message = 'Timeout exceeded', type = ''}

local shortened = internal.netbox_shortened
local function deadline_of(seconds)
    return seconds and CLOCK[MONOTONIC] + shortened(seconds) or nil
end
local function left(deadline)
    if not deadline then
        return nil
    end
    local seconds = deadline - CLOCK[MONOTONIC]
    return seconds > 0 and seconds or 0
end

-- Futures --------------------------------------------------------------------------------------------------------------

local future_methods = {}
local future_meta = {__index = future_methods, __metatable = false}
-- What the module knows of a future: {connection, number, sync, pushes, list, problem, is_done}.
local futures = setmetatable({}, {__mode = 'k'})

-- Takes what has come for a future, for at most `seconds`. Returns false if it is too late.
local function advance(future, seconds)
    if future.is_done then
        return true
    end
    local response = wait(future.number, future.sync, seconds, true)
    if response == NULL or response == nil then
        return false
    elseif response.kind == 'push' then
        local list = values_of(response)
        future.pushes[#future.pushes + 1] = list[1]
        return true
    elseif response.kind == 'error' then
        future.problem = error_of(response)
    else
        future.list = values_of(response)
    end
    future.is_done = true
    return true
end

local function future_of(object, usage, seconds)
    local future = futures[object]
    if not future or seconds ~= nil and (type(seconds) ~= 'number' or seconds < 0 or seconds ~= seconds) then
        return error('Usage: ' .. usage, 0)
    end
    return future
end

function future_methods.is_ready(object)
    local future = future_of(object, 'future:is_ready()')
    while not future.is_done and advance(future, 0) do
    end
    return future.is_done == true
end

local function outcome(future)
    if future.problem then
        return nil, future.problem
    end
    return future.list
end

function future_methods.result(object)
    local future = future_of(object, 'future:result()')
    if not future_methods.is_ready(object) then
        return nil, remote_error(0, 'Response is not ready', '')
    end
    return outcome(future)
end

function future_methods.wait_result(object, seconds)
    local future = future_of(object, 'future:wait_result(timeout)', seconds)
    local deadline = deadline_of(seconds)
    while not future.is_done do
        if not advance(future, left(deadline)) then
            return nil, error_of(TIMEOUT)
        end
    end
    return outcome(future)
end

function future_methods.discard(object)
    local future = future_of(object, 'future:discard()')
    if not future.is_done then
        future.is_done, future.problem = true, remote_error(0, 'Response is discarded', '')
        discard(future.number, future.sync)
    end
end

-- Iterates over (number, push), and at last (number, list of results). `seconds`: for each.
function future_methods.pairs(object, seconds)
    local future = future_of(object, 'future:pairs(timeout)', seconds)
    return function(_, index)
        index = index + 1
        if index > #future.pushes + 1 or index > #future.pushes and future.ended then
            return nil
        end
        local deadline = deadline_of(seconds)
        while index > #future.pushes and not future.is_done do
            if not advance(future, left(deadline)) then
                return index, error_of(TIMEOUT)
            end
        end
        if index <= #future.pushes then
            return index, future.pushes[index]
        end
        future.ended = true
        return index, future.problem or future.list
    end, object, 0
end

local function new_future(state)
    local object = setmetatable({}, future_meta)
    futures[object] = state
    return object
end

-- Requests -------------------------------------------------------------------------------------------------------------

-- The deadline of a request with these options.
local function deadline_in(record, options)
    if type(options) ~= 'table' then
        return error('net.box: options must be a table, got ' .. type(options), 0)
    elseif options.buffer ~= nil then
        return error('net.box: the option buffer is not supported', 0)
    elseif options.is_async and options.on_push then
        return error('To handle pushes in an async mode use future:pairs()', 0)
    end
    local seconds = options.timeout
    if seconds ~= nil and (type(seconds) ~= 'number' or seconds ~= seconds) then
        return error('net.box: timeout must be a number of seconds', 0)
    end
    return seconds and deadline_of(seconds) or record.deadline
end

-- Sends a request. Returns the list of its results and their number, or a future.
local function request(connection, kind, name, arguments, options)
    local record = record_of(connection, kind)
    options = options or {}
    local deadline = deadline_in(record, options)
    local asked = ask(record.number, kind, name, arguments, left(deadline))
    if type(asked) == 'table' then
        if options.is_async then
            return new_future({is_done = true, problem = error_of(asked), pushes = {}})
        end
        return raise_object(error_of(asked))
    elseif options.is_async then
        return new_future({connection = connection, number = record.number, sync = asked, pushes = {}})
    end
    while true do
        local response = wait(record.number, asked, left(deadline), false)
        if response == NULL or response == nil then
            return raise_object(error_of(TIMEOUT))
        elseif response.kind == 'error' then
            return raise_object(error_of(response))
        elseif response.kind == 'ok' then
            return values_of(response)
        elseif type(options.on_push) == 'function' then
            local list = values_of(response)
            options.on_push(options.on_push_ctx, list[1])
        end
    end
end

-- Makes a method that sends a named request with a list of arguments.
local function requester(kind, usage)
    return function(connection, name, arguments, options)
        record_of(connection, kind)
        if arguments ~= nil and type(arguments) ~= 'table' then
            return error(format(USE_A_LIST, kind, usage, kind, usage), 0)
        end
        local list, count = request(connection, kind, raw.tostring(name), encode(arguments or {}, 0), options)
        if futures[list] then
            return list
        end
        return unpack(list, 1, count)
    end
end
methods.eval = requester('eval', 'expression')
local call, call_16 = requester('call', 'func_name'), requester('call_16', 'func_name')

function methods.call(connection, name, arguments, options)
    if record_of(connection, 'call').options.call_16 then
        return {call_16(connection, name, arguments, options)}
    end
    return call(connection, name, arguments, options)
end
-- The CALL of Tarantool 1.6, which returns a list of tuples.
function methods.call_16(connection, name, ...)
    record_of(connection, 'call_16')
    return {call_16(connection, name, {...})}
end

function methods.ping(connection, options)
    record_of(connection, 'ping')
    return task.protected(request, connection, 'ping', '', '', options) == true
end

-- The next requests have this time together. (Deprecated; use the option timeout.)
function methods.timeout(connection, seconds)
    record_of(connection, 'timeout').deadline = deadline_of(tonumber(seconds))
    return connection
end

-- This server ----------------------------------------------------------------------------------------------------------

-- The same functions for this server, without a connection.
local own = {}
netbox.self = own
function own.ping() return true end
function own.is_connected() return true end
function own.wait_connected() return true end
function own.close() end
function own.reload_schema() end
function own.timeout(self) return self end

-- The arguments of a request to this server. `kind` and `usage` are for the message.
local function list_argument(owner, arguments, kind, usage)
    if owner ~= own then
        return error(format('Use remote:%s(...) instead of remote.%s(...):', kind, kind), 0)
    elseif arguments == nil then
        return {}
    elseif type(arguments) ~= 'table' then
        return error(format(USE_A_LIST, kind, usage, kind, usage), 0)
    end
    return arguments
end

-- A text that is no chunk may be an expression, as in Tarantool.
function own.eval(owner, text, arguments)
    local list = list_argument(owner, arguments, 'eval', 'expression')
    local func, problem = load_string(text)
    if not func and type(text) == 'string' then
        func, problem = load_string('return ' .. text)
    end
    if not func then
        return error(problem, 0)
    end
    return func(unpack(list))
end

function own.call(self, name, arguments)
    local list = list_argument(self, arguments, 'call', 'func_name')
    local func, owner = internal.find_function(raw.tostring(name))
    if not func then
        return internal.raise('NO_SUCH_PROC', name)
    elseif owner then
        return func(owner, unpack(list))
    end
    return func(unpack(list))
end
