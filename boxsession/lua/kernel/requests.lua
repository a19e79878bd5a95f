-- Runs requests of the binary protocol: EVAL and CALL. A session has several workers, each with its own task; each worker
-- runs one request at a time.
--
-- Python drives the coroutine request_main. It sends (operation, name, arguments, sync) and gets back one string: '=' and a
-- list of the results, or '!' and a list of errors: see chain(). Lists and numbers are in msgpack.
-- Or Python sends (BATCH, frames, '', length of the longest frame allowed): see run_batch().
--
-- Longer than usual: a batch reads and writes frames in place, in local variables; calls into another file would slow down
-- each request.
-- Needs: kernel/evaluator, library/msgpack
local internal, REASON, GIVE_BACK = ...
local raw, task, access = internal.raw, internal.task, internal.access
local byte, char, concat, error, find, floor, getfenv, getmetatable, gmatch, match, raw_pcall, raw_unpack, rawget, sub, type,
    yield = raw.byte, raw.char, raw.concat, raw.error, raw.find, raw.floor, raw.getfenv, raw.debug_getmetatable, raw.gmatch,
    raw.match, raw.pcall, raw.unpack, raw.rawget, raw.sub, raw.type, raw.co_yield
local NULL, decode, encode_list, encode_rows = internal.NULL, internal.msgpack.decode, internal.msgpack.encode_list,
    internal.msgpack.encode_rows
local load_text, is_exposed = internal.load_text, internal.exposed.is_object
local KILL, OUT_OF_MEMORY = internal.KILL, internal.OUT_OF_MEMORY
local globals = _G
local FULL, STALE = access.FULL, access.STALE

local contract = internal.contract
local EVAL, CALL, LOGIN, BATCH, CALL_16, EVAL_ERROR = contract.EVAL, contract.CALL, contract.LOGIN, contract.BATCH,
    contract.CALL_16, contract.EVAL_ERROR

-- Compiled expressions are in the same cache as the statements of text sessions; evaluator.lua says why a chunk is removed
-- when its request waits. The prefix keeps the two apart.
local chunks, keep_chunk = task.chunks, internal.keep_chunk
local PREFIX = '\0eval\0'

-- The compiler cannot be interrupted, and for some texts its time grows with the square of their length.
local CODE_MAX = 2^17
local function compile(me, key, text)
    local chunk, message
    if #text <= CODE_MAX then
        chunk, message = load_text(text, '=eval')
    else
        message = 'the code is too long (' .. #text .. ' bytes, at most ' .. CODE_MAX .. ')'
    end
    if not chunk then
        me.unparsed = true
        return error(message, 0)
    end
    return keep_chunk(me, key, chunk)
end

-- The values of a list in msgpack. Call it only after the rights are checked: it allocates memory for the sender.
local function unpack_list(packed)
    if packed == '\144' then
        return
    end
    local list, at = decode(packed, 1, 0)
    if at ~= #packed + 1 then
        return internal.raise('INVALID_MSGPACK', 'packet body')
    end
    local count = #list
    for index = 1, count do
        if list[index] == NULL then
            list[index] = nil
        end
    end
    return raw_unpack(list, 1, count)
end

local function level_of(session)
    if session.scope == STALE then
        access.apply(session)
    end
    return session.level
end

local function results(...)
    return '=' .. encode_list(...)
end

local function rows(...)
    return '=' .. encode_rows(...)
end

local function eval(me, text, arguments)
    if level_of(me.session) ~= FULL then
        return access.deny('Execute', 'universe', '')
    end
    local key = PREFIX .. text
    local chunk = task.find_chunk(me, key) or compile(me, key, text)
    return results(chunk(unpack_list(arguments)))
end

-- A function, or a table that can be called; in Tarantool any table is one, and fails when it is called.
local function need_callable(value)
    if type(value) == 'table' then
        local meta = getmetatable(value)
        if type(meta and rawget(meta, '__call')) ~= 'function' then
            return error('attempt to call a table value', 0)
        end
        return value
    end
    return type(value) == 'function' and value
end

local function has_methods(value)
    local kind = type(value)
    return kind == 'table' or kind == 'userdata' and (is_exposed(value) or not internal.cdata[value])
end

-- Finds a global function by its path, `a.b.c` or `a.b:c`. Returns it (false if it cannot be called) and, for a method, its
-- owner.
local function find_function(name)
    local path, method = match(name, '^(.*):([^:]*)$')
    local found, owner = globals, nil
    if path == '' or find(path or name, '^%.') or find(path or name, '..', 1, true) or find(path or name, '%.$') then
        return nil
    end
    if name == '' then
        found = rawget(globals, name)
    end
    for word in gmatch(path or name, '[^.]+') do
        if type(found) ~= 'table' and not is_exposed(found) then
            return nil
        end
        found = found[word]
    end
    if method then
        owner = found
        found = has_methods(owner) and owner[method] or nil
    end
    return need_callable(found), owner
end
internal.find_function = find_function

local function call(me, name, arguments, pack)
    if level_of(me.session) ~= FULL then
        -- Checked before the arguments are decoded.
        local path, method = match(name, '^(.*):([^:.]*)$')
        if path then
            internal.need_grant(path .. '.' .. method, name)
            return pack(internal.call_granted_method(path, method, unpack_list(arguments)))
        end
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
    return '='
end

local OPERATIONS = {[EVAL] = eval, [CALL] = call, [LOGIN] = login, [CALL_16] = call}
local function perform(me, operation, name, arguments)
    return OPERATIONS[operation](me, name, arguments, operation == CALL_16 and rows or results)
end

local MESSAGE_MAX = 2^16
local PROC_LUA = 32
local function shortened(text)
    return #text > MESSAGE_MAX and sub(text, 1, MESSAGE_MAX) .. '...' or text
end

local function text_or_nil(value)
    return type(value) == 'string' and shortened(value) or nil
end

-- An error and the errors behind it, each {kind, code, message, further fields, file, line}.
local CHAIN_MAX = 100
local function chain(told)
    local list = {}
    while told and #list < CHAIN_MAX do
        local custom = told.custom_type
        list[#list + 1] = {
            custom and 'CustomError' or told.type, (told.code or PROC_LUA) % 2^32, told.message,
            {access_type = text_or_nil(told.access_type), object_type = text_or_nil(told.object_type),
             object_name = text_or_nil(told.object_name), custom_type = custom},
            told.file or '', told.line or 0,
        }
        told = told.prev and internal.error_fields(told.prev)
    end
    return list
end

local function failure(me, value)
    if value == OUT_OF_MEMORY then
        task.make_room(false)           -- the stack may grow
        task.collect()
    end
    task.make_room(value == OUT_OF_MEMORY)
    if me.unparsed then
        me.unparsed = false
        internal.errors.syntax = internal.errors.syntax + 1
    else
        internal.count_error(me, value)
    end
    local told = type(value) == 'userdata' and internal.error_fields(value)
    if told then
        me.failed = told.message
        return '!' .. encode_list(raw_unpack(chain(told)))
    end
    local message
    if value == KILL then
        message = task.text(REASON, 0) or 'the request was cancelled'
    elseif value == OUT_OF_MEMORY then
        message = internal.OUT_OF_MEMORY_SHOWN
    elseif type(value) == 'string' then
        message = internal.strip_position(value)
    else
        message = task.text_of(me, value)
        task.lift_limit()
    end
    me.failed = shortened(message)
    return '!' .. encode_list({'LuajitError', PROC_LUA, me.failed, {}, '', 0})
end

-- Batches ----------------------------------------------------------------------------------------------------------------
--
-- A batch is the received frames of a connection, lent to Lua in one crossing. Lua runs the frames that have the layout
-- which connectors write, in order, up to the first that differs; Python handles that one. Positions count from 1. If a
-- request waits or is preempted, the frames not started are given back, and another worker continues with them.

local IPROTO_EVAL, IPROTO_CALL = 8, 10
local MAP_OF_TWO, LONG_LENGTH, EXPRESSION, FUNCTION, ARGUMENTS = 0x82, 0xce, 0x27, 0x22, 0x21
-- Size in bytes of a request's sync in msgpack, by its first byte.
local SYNC_WIDTHS = {[0xcc] = 2, [0xcd] = 3, [0xce] = 5, [0xcf] = 9}
-- A batch ends after this many requests, hook calls, or bytes of answers.
local REQUESTS_MAX, LOOKS_MAX, BYTES_MAX = 64, 16, 2^16
-- Longest result (bytes of msgpack) that is sent from here; for longer ones Python checks the output limit.
local LONG_RESULT = 4096

-- The fields of the frame at `at`: request type, sync (msgpack bytes), text, position of the arguments, position after the
-- frame. Returns nil if the layout differs or the frame is incomplete.
local function fields_of(frames, at, longest)
    local mark, a, b, c, d, header, zero, kind, one, sync = byte(frames, at, at + 9)
    if not sync or mark ~= LONG_LENGTH or a ~= 0 or b ~= 0 or header ~= MAP_OF_TWO or zero ~= 0 or one ~= 1
       or kind ~= IPROTO_EVAL and kind ~= IPROTO_CALL then
        return nil
    end
    local length = c * 256 + d
    local stop = at + 5 + length
    if stop > #frames + 1 or longest ~= 0 and length > longest then
        return nil
    end
    local body = at + 10
    if sync >= 0x80 then
        local width = SYNC_WIDTHS[sync]
        if not width then
            return nil
        end
        body = at + 9 + width
    end
    local map, key, head, width = byte(frames, body, body + 3)
    if not width or map ~= MAP_OF_TWO or key ~= (kind == IPROTO_EVAL and EXPRESSION or FUNCTION) then
        return nil
    end
    local first, last
    if head >= 0xa0 and head < 0xc0 then
        first = body + 3
        last = first + head - 0xa1
    elseif head == 0xd9 then
        first = body + 4
        last = first + width - 1
    elseif head == 0xda then
        first = body + 5
        last = first + width * 256 + (byte(frames, body + 4) or 0) - 1
    else
        return nil
    end
    if last + 2 >= stop or byte(frames, last + 1) ~= ARGUMENTS then
        return nil
    end
    return kind, sub(frames, at + 9, body - 1), sub(frames, first, last), last + 2, stop
end

-- The arguments' count, and the single argument or a list of several. Returns nil or false if one cannot be decoded here.
local function arguments_of(frames, at, stop)
    local head = byte(frames, at)
    if head == 0x90 then
        return at + 1 == stop and 0, nil
    elseif head < 0x90 or head > 0x9f then
        return nil
    end
    local count, value = head - 0x90, nil
    at = at + 1
    if count == 1 then
        value, at = decode(frames, at, 0)
        if value == NULL then
            value = nil
        end
        return at == stop and 1, value
    end
    local list = {}
    for index = 1, count do
        value, at = decode(frames, at, 0)
        if not at then
            return nil
        end
        if value ~= NULL then
            list[index] = value
        end
    end
    return at == stop and count, list
end

-- Caches by text: whether a function's name is plain (has no path), and the key of an expression in `chunks`.
local KNOWN_MAX = 1024
local is_plain, plain_count, keys, key_count = {}, 0, {}, 0

local function find_plain(name)
    local plain = is_plain[name]
    if plain == nil then
        if plain_count >= KNOWN_MAX then
            is_plain, plain_count = {}, 0
        end
        plain = not find(name, '[.:]')
        is_plain[name], plain_count = plain, plain_count + 1
    end
    local func = plain and globals[name]
    return type(func) == 'function' and func
end

local function key_of(text)
    local key = keys[text]
    if not key then
        key = PREFIX .. text
        if #text <= KNOWN_MAX then
            if key_count >= KNOWN_MAX then
                keys, key_count = {}, 0
            end
            keys[text], key_count = key, key_count + 1
        end
    end
    return key
end

local ANSWER_HEADS = {}
for length = 0, 255 do
    ANSWER_HEADS[length] = '\206\0\0\0' .. char(length) .. '\131\0\0\1'
end
local DATA = '\5\1\129\48'

local function frame_of(sync, list)
    local length = #sync + #list + 8
    local head = ANSWER_HEADS[length]
    if not head then
        head = '\206\0' .. char(floor(length / 2^16), floor(length / 256) % 256, length % 256) .. '\131\0\0\1'
    end
    return head .. sync .. DATA .. list
end

-- A short result as a msgpack list; for a long one nil, and the string that goes to Python.
local function result_of(...)
    local list = encode_list(...)
    if #list <= LONG_RESULT then
        return list
    end
    return nil, '=' .. list
end

-- The hook may stop a batch at any instruction, so one number, `done`, tells how far it is: answers[1..done] are complete,
-- and the next frame is at starts[done + 1]. If `runs` is done + 1, that frame's user code has started.
local function batch_body(me, frames, longest)
    me.user_code = false
    local batch, session = me.batch, me.session
    local answers, starts = batch.answers, batch.starts
    local at, bytes = 1, 0
    while batch.lent and batch.done < REQUESTS_MAX and batch.looks < LOOKS_MAX and bytes < BYTES_MAX do
        -- With me.chunk set, a wait calls give_back().
        me.chunk, me.text = true, ''
        if session.level ~= FULL or session.scope == STALE then
            break
        end
        local kind, sync, text, behind, stop = fields_of(frames, at, longest)
        if not kind then
            break
        end
        local count, arguments = arguments_of(frames, behind, stop)
        if not count then
            break
        end
        local func, key
        if kind == IPROTO_EVAL then
            key = key_of(text)
            func = chunks[key]
            if not func then
                func = compile(me, key, text)
            end
            me.text = key
            if me.chunk then
                me.chunk = func
            end
        else
            func = find_plain(text)
            if not func then
                break
            end
        end
        me.sync, me.failed, me.is_fresh = sync, false, true
        me.storage, me.cancelled, me.joinable, me.name = false, false, false, 'main'
        batch.runs = batch.done + 1
        me.user_code = true
        if not batch.lent and not batch.taken then
            break
        end
        local list, packed
        if count == 0 then
            list, packed = result_of(func())
        elseif count == 1 then
            list, packed = result_of(func(arguments))
        else
            list, packed = result_of(func(raw_unpack(arguments, 1, count)))
        end
        me.user_code = false
        if key and me.chunk and getfenv(func) ~= globals then
            chunks[key] = nil
        end
        if not list then
            return packed
        end
        local answer = frame_of(sync, list)
        bytes = bytes + #answer
        local done = batch.runs
        answers[done], starts[done + 1] = answer, stop
        batch.done = done
        at = stop
    end
    me.user_code = false
    return ''
end

local function hand_over(batch)
    local runs = batch.runs == batch.done + 1
    local start = batch.starts[batch.done + 1]
    local _ = GIVE_BACK[runs and -start or start]
    batch.lent, batch.taken = false, runs
    while batch.given < batch.done do
        _ = GIVE_BACK[batch.answers[batch.given + 1]]
        batch.given = batch.given + 1
    end
end

-- The task waits or is preempted: gives the frames not started back to Python, for other workers. If the stack is too full
-- for that, the batch stays lent and other workers have to wait.
function task.give_back(me)
    local batch = me.batch
    if batch.lent then
        -- KILL must not interrupt hand_over().
        local is_users = me.user_code
        me.user_code = false
        raw_pcall(hand_over, batch)
        me.user_code = is_users
    end
end

-- Runs frames as described above. Returns the answers (frames in one string), the position of the first frame not answered
-- here, how many requests were answered, and, if the frame at that position has run, its result or error for Python to send
-- (as request() returns it), else ''.
local function run_batch(me, frames, longest)
    local batch = me.batch
    batch.done, batch.given, batch.runs, batch.looks, batch.starts[1] = 0, 0, 0, 0, 1
    batch.lent, batch.taken = true, false
    me.chunk, me.text = true, ''
    local ok, out = task.run(me, batch_body, me, frames, longest)
    if not ok then
        if me.chunk and me.chunk ~= true and getfenv(me.chunk) ~= globals then
            chunks[me.text] = nil
        end
        out = failure(me, out)
    end
    me.chunk, me.sync = false, false
    local is_ours = batch.lent or batch.taken
    batch.lent = false
    task.make_room(false)
    local answers = concat(batch.answers, '', batch.given + 1, batch.done)
    return answers, batch.starts[batch.done + 1], batch.done, is_ours and out or ''
end

local TIGHT = contract.TIGHT

local function request(me, operation, name, arguments, sync)
    if operation >= TIGHT then
        operation = task.make_ready(me, operation)
    end
    if operation == EVAL_ERROR then
        return me.eval_error or ''
    end
    if operation == BATCH then
        return run_batch(me, name, sync)
    end
    me.sync, me.failed, me.eval_error, me.is_fresh = sync, false, false, true
    me.storage, me.cancelled, me.joinable, me.name = false, false, false, 'main'
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
    local batch = {answers = {}, starts = {}, done = 0, given = 0, runs = 0, looks = 0, lent = false, taken = false}
    -- Each request is a fiber of its own for users, so the fields from `storage` on are reset for each.
    local me = task.new_record({session = internal.sessions[id], sync = false, unparsed = false, batch = batch,
                                storage = false, cancelled = false, joinable = false, name = 'main'})
    task.adopt(me)
    internal.fiber_of_session(me)
    local operation, name, arguments, sync = yield(me.fid .. '')
    while operation ~= 0 do
        operation, name, arguments, sync = yield(request(me, operation, name, arguments, sync))
    end
    internal.fiber_forget(me)
    return ''
end
