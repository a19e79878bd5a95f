-- Requests of the binary protocol: EVAL and CALL, several of one session at a time, each on a task of its own.
--
-- request_main is the coroutine that Python drives: it takes (operation, name, packed arguments, sync) and gives back one
-- string: '=' and the packed results, or '!' and a packed list {kind, code, message, access} of what it raised.
local internal, REASON, FAILED = ...
local raw, task, access = internal.raw, internal.task, internal.access
local collectgarbage, error, getfenv, gmatch, match, sub, type, yield = raw.collectgarbage, raw.error, raw.getfenv,
    raw.gmatch, raw.match, raw.sub, raw.type, raw.co_yield
local pack, unpack_list, load_text = internal.pack_values, internal.unpack_list, internal.load_text
local KILL, OUT_OF_MEMORY = internal.KILL, internal.OUT_OF_MEMORY
local globals = _G
local FULL = access.FULL

local EVAL, CALL, LOGIN = 1, 2, 3

-- Compiled expressions, beside the consoles' statements; see evaluator.lua for why one is taken out when it waits.
local chunks, keep_chunk = task.chunks, internal.keep_chunk
local PREFIX = '\0eval\0'

local function compile(me, key, text)
    local chunk, message = load_text(text, '=eval')
    if not chunk then
        me.unparsed = true
        return error(message, 0)
    end
    return keep_chunk(key, chunk)
end

local function level_of(session)
    if session.scope == access.STALE then
        access.apply(session)
    end
    return session.level
end

local function eval(me, text, arguments)
    if level_of(me.session) ~= FULL then
        return access.deny('Execute', 'universe', '')
    end
    local key = PREFIX .. text
    local chunk = chunks[key] or compile(me, key, text)
    me.chunk, me.text = chunk, key
    return pack(chunk(unpack_list(arguments)))
end

-- A global by its path, and what it is a method of: `a.b.c`, `a.b:c`.
local function find_function(name)
    local path, method = match(name, '^(.*):([^:]*)$')
    local found, owner = globals, nil
    for word in gmatch(path or name, '[^.]+') do
        if type(found) ~= 'table' then
            return nil
        end
        found = found[word]
    end
    if method then
        owner = found
        found = type(owner) == 'table' and owner[method] or nil
    end
    return type(found) == 'function' and found, owner
end

local function call(me, name, arguments)
    if level_of(me.session) ~= FULL then
        -- Before anything is made of what came with it.
        internal.need_grant(name)
        return pack(internal.call_granted(name, unpack_list(arguments)))
    end
    local func, owner = find_function(name)
    if not func then
        return internal.raise('NO_SUCH_PROC', name)
    end
    if owner then
        return pack(func(owner, unpack_list(arguments)))
    end
    return pack(func(unpack_list(arguments)))
end

local function login(_, name, arguments)
    access.login_by_scramble(name, unpack_list(arguments))
    return '=L]'
end

local OPERATIONS = {[EVAL] = eval, [CALL] = call, [LOGIN] = login}
local function perform(me, operation, name, arguments)
    return OPERATIONS[operation](me, name, arguments)
end

local MESSAGE_MAX = 2^16
local PROC_LUA, CODE_MAX = 32, 0x7fff
local function failure(me, value)
    if value == OUT_OF_MEMORY then
        task.collect()
    end
    task.make_room(value == OUT_OF_MEMORY)
    local _ = FAILED[me.unparsed and 'syntax' or internal.error_kind(me, value)]
    me.unparsed = false
    local told = type(value) == 'userdata' and internal.error_fields(value)
    if told then
        me.failed = told.message
        local code = told.code
        if code % 1 ~= 0 or code < 0 or code > CODE_MAX then
            code = PROC_LUA
        end
        return '!' .. sub(pack(told.type, code, told.message, {access_type = told.access_type,
                               object_type = told.object_type, object_name = told.object_name}), 2)
    end
    local message
    if value == KILL then
        message = task.text(REASON, 0) or 'the request was cancelled'
    elseif type(value) == 'string' then
        message = internal.strip_position(value)
    else
        message = task.text_of(me, value)
    end
    if #message > MESSAGE_MAX then
        message = sub(message, 1, MESSAGE_MAX) .. '...'
    end
    me.failed = message
    return '!' .. sub(pack('LuajitError', PROC_LUA, message, {}), 2)
end

-- What Python adds to an operation when memory is short, as in evaluator.lua.
local TIGHT, COLLECT, STACK_DEPTH = 16, 32, 40

local function request(me, operation, name, arguments, sync)
    if operation >= TIGHT then
        if operation >= COLLECT then
            operation = operation - COLLECT
            collectgarbage()
        end
        operation = operation - TIGHT
        me.keeps_limit = true
        task.grow_stack(STACK_DEPTH)
    end
    me.sync, me.failed = sync, false
    local ok, out = task.run(me, perform, me, operation, name, arguments)
    local chunk = me.chunk
    if chunk then
        me.chunk = false
        if getfenv(chunk) ~= globals then
            chunks[me.text] = nil
        end
    end
    me.sync = false
    if ok then
        return out
    end
    return failure(me, out)
end

function internal.request_main(id)
    local me = task.new_record({session = internal.sessions[id], sync = false, unparsed = false})
    task.adopt(me)
    internal.fiber_of_session(me)
    local operation, name, arguments, sync = yield(me.fid .. '')
    while operation ~= 0 do
        operation, name, arguments, sync = yield(request(me, operation, name, arguments, sync))
    end
    internal.fiber_forget(me)
    return ''
end
