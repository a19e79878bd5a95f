-- Runs statements. Python drives two coroutines of this file: session_main, one for each session, and script_main for the
-- init script. Each first yields its task's id. (A fiber's coroutine runs fiber_main, in fiber.lua.)
--
-- Python then sends session_main (operation, text) and gets back the reply in one crossing: one string (several for a long
-- tagged string), or '' if the statement is incomplete. Invariant: no code here may raise outside task.run(), since an
-- error ends the coroutine.
-- Needs: kernel/compiler, library/commands, rights/access, rights/sandbox, wire/format
local internal, REASON, STOPPED = ...
local raw, task, output = internal.raw, internal.task, internal.output
local KILL, OUT_OF_MEMORY = internal.KILL, internal.OUT_OF_MEMORY
local byte, find, getfenv, next, setfenv, sub, type, yield = raw.byte, raw.find, raw.getfenv, raw.next, raw.setfenv, raw.sub,
    raw.type, raw.co_yield
local load_text, protected, raw_pcall = internal.load_text, task.protected, raw.pcall
local globals = _G
local STALE, FULL = internal.access.STALE, internal.access.FULL

local contract = internal.contract
local STATEMENT, STATEMENT_OPEN, CONNECT, DISCONNECT = contract.STATEMENT, contract.STATEMENT_OPEN, contract.CONNECT,
    contract.DISCONNECT
local FAIL, CHECK, LEFT_REMOTE, LAST_ERROR, LEAVE = contract.FAIL, contract.CHECK, contract.LEFT_REMOTE,
    contract.LAST_ERROR, contract.LEAVE
local STYLE, EXCHANGE, DENY = contract.STYLE, contract.EXCHANGE, contract.DENY
local TIGHT = contract.TIGHT
local BACKSLASH = 92

-- A cache of compiled chunks by statement text: scripts and dashboards send the same few statements repeatedly. A chunk is
-- removed when its statement waits or is preempted (task.lua), since no other session may run it meanwhile. It is also
-- removed if the statement changed its own environment by setfenv.
local CACHED_LENGTH, CACHE_SIZE = 512, 1024
local chunks, cached = task.chunks, 0

local function keep_chunk(me, key, chunk)
    if #key <= CACHED_LENGTH then
        if cached >= CACHE_SIZE then
            -- Atomic: another task could add an entry during the loop, and `next` would fail.
            task.lock()
            for known in next, chunks do
                chunks[known] = nil
            end
            cached = 0
            task.unlock()
        end
        cached = cached + 1
        task.keep_chunk(me, key, chunk)
    else
        me.chunk, me.text = chunk, key
    end
    return chunk
end
internal.keep_chunk = keep_chunk

local EARLY_END = " near '<eof>'"
local function ends_too_early(message)
    return sub(message, -#EARLY_END) == EARLY_END
        -- A quoted string cannot continue on the next line.
        and not find(message, 'unfinished string near', 1, true)
end

-- Compiles a statement, first as an expression, then as a block. If both fail, returns nil, the error message, and whether
-- one of the two only ends too early.
local function load_statement(text)
    local chunk, message, as_expression
    chunk, as_expression = load_text('return ' .. text)
    if not chunk then
        chunk, message = load_text(text)
        if not chunk then
            return nil, message, ends_too_early(message) or ends_too_early(as_expression)
        end
    end
    return chunk
end

internal.load_statement = load_statement

-- The same, for `me` to run, by way of the cache.
local function compile(me, text)
    local chunk, message, unfinished = task.find_chunk(me, text), nil, nil
    if chunk then
        return chunk
    end
    chunk, message, unfinished = load_statement(text)
    if not chunk then
        return nil, message, unfinished
    end
    return keep_chunk(me, text, chunk)
end

-- Number of statements and requests that ended in an error, by kind.
local errors = {syntax = 0, runtime = 0, denied = 0, memory = 0, output = 0}
internal.errors = errors

local function show(me, ...)
    me.showing = true
    return output.reply(me.session, ...)
end

-- Python asks for the error later (LAST_ERROR), so it is kept.
local function fail(me, message)
    me.failed = message
    return output.error_reply(me.session, message)
end

local reply_with_error

-- Runs a statement; `chunk` is its compiled chunk if the cache had it. `open`: an incomplete statement returns ''.
local function evaluate(me, text, open, chunk)
    local message, unfinished
    if not chunk then
        local scope = me.session.scope
        if scope == STALE then
            scope = internal.access.apply(me.session)
        end
        if byte(text, 1) == BACKSLASH then
            return show(me, internal.command(me.session, sub(text, 2)))
        end
        if scope then
            chunk, message, unfinished = load_statement(text)
            if chunk and me.session.level == FULL then
                return show(me, setfenv(chunk, scope)())
            elseif chunk then
                return show(me, internal.revealed(setfenv(chunk, scope)()))
            end
        else
            chunk, message, unfinished = compile(me, text)
        end
    end
    if chunk then
        return show(me, chunk())
    end
    if open and unfinished then
        return ''
    end
    errors.syntax = errors.syntax + 1
    return fail(me, message)
end

local CANCELLED = 'the statement was cancelled'
local FORMATTING = {
    yaml = 'console: an exception occurred when formatting the output: %s',
    line = 'console: exception while formatting output: "%s"',
    block = 'console: exception while formatting output: "%s"',
}

-- The kind (ERROR_KINDS in base/counters.py) of an error value that task.run() returned; nil for KILL.
local ACCESS_DENIED = 42
local function kind_of(me, value)
    if value == KILL then
        return nil
    elseif value == OUT_OF_MEMORY then
        return 'memory'
    elseif me.showing then
        return 'output'
    end
    local told = type(value) == 'userdata' and internal.error_fields(value)
    return told and told.code == ACCESS_DENIED and 'denied' or 'runtime'
end

-- Counts an error by kind. For KILL, Python knows whether it was a cancellation or a timeout.
local function count_error(me, value)
    local kind = kind_of(me, value)
    if kind then
        errors[kind] = errors[kind] + 1
    else
        local _ = STOPPED[0]
    end
end
internal.count_error = count_error

-- Yields the counters to Python each time it asks.
function internal.count_errors()
    while true do
        local told = ''
        for kind, number in next, errors do
            told = told .. kind .. ':' .. number .. ' '
        end
        yield(told)
    end
end

-- The error document for an error value. The value may be a user's table, so writing it can raise again.
local MESSAGE_MAX = 2^16
function reply_with_error(me, value, counts)
    local session = me.session
    if value == OUT_OF_MEMORY then
        task.make_room(false)           -- the stack may grow
        task.collect()
    end
    task.make_room(value == OUT_OF_MEMORY)
    if counts then
        count_error(me, value)
    end
    if type(value) == 'string' and #value > MESSAGE_MAX then
        value = sub(value, 1, MESSAGE_MAX) .. '...'
    end
    if value == KILL then
        return fail(me, task.text(REASON, 0) or CANCELLED)
    end
    if me.showing and value ~= OUT_OF_MEMORY then
        local message = (type(value) == 'string' or type(value) == 'number') and value or ''
        value = raw.format(FORMATTING[session.output], message)
    end
    if value == OUT_OF_MEMORY then
        value = internal.OUT_OF_MEMORY_SHOWN
    end
    if type(value) == 'string' then
        -- error(text, 2) in a statement adds a position in this file.
        return fail(me, internal.strip_position(value))
    end
    local ok, reply = task.run(me, fail, me, value)
    if ok then
        return reply
    end
    if reply == KILL then
        return fail(me, task.text(REASON, 0) or CANCELLED)
    end
    me.showing = true
    return reply_with_error(me, type(reply) == 'string' and reply or 'error object cannot be shown')
end

-- The reply to a statement that console.eval() runs. It is part of the statement that called console.eval().
function internal.reply_to(text)
    local me = task.current()
    local session = me.session
    me.eval_error = ''
    -- The audit file records the error.
    local function failed(value)
        local told = type(value) == 'userdata' and internal.error_fields(value)
        value = told and told.message or value
        me.eval_error = type(value) == 'string' and sub(value, 1, MESSAGE_MAX) or 'an error object'
    end
    local function reply(ok, ...)
        if ok then
            return output.text(output.reply(session, ...))
        end
        failed((...))
        return output.text(output.error_reply(session, (...)))
    end
    if byte(text, 1) == BACKSLASH then
        return reply(protected(internal.command, session, sub(text, 2)))
    end
    local chunk, message = load_statement(text)
    if not chunk then
        return reply(false, message)
    end
    if session.scope == STALE then
        internal.access.apply(session)
    end
    if session.scope then
        setfenv(chunk, session.scope)
    end
    return reply(protected(chunk))
end

local function perform(me, operation, text)
    if operation >= TIGHT then
        operation = task.make_ready(me, operation)
        -- Compiled while the limit is lifted: so a statement that frees memory can still run if memory is full, also in a
        -- new session.
        if me.keeps_limit and (operation == STATEMENT or operation == STATEMENT_OPEN) then
            raw_pcall(compile, me, text)
        end
    end
    if operation == LAST_ERROR then
        local failed = me.failed
        return failed == false and '' or type(failed) == 'table' and 'an error object' or raw.tostring(failed)
    end
    me.showing, me.failed = false, false
    if me.cancelled then
        -- fiber.cancel() was meant for the previous statement.
        me.cancelled = false
    end
    local ok, out
    if operation == STATEMENT or operation == STATEMENT_OPEN then
        -- Outside task.run() no other task can run in between, so no other session takes this chunk.
        local chunk = not me.session.scope and chunks[text]
        if chunk then
            me.chunk, me.text = chunk, text
        end
        me.is_fresh = true
        ok, out = task.run(me, evaluate, me, text, operation == STATEMENT_OPEN, chunk)
        chunk = me.chunk
        if chunk then
            me.chunk = false
            if getfenv(chunk) ~= globals then
                chunks[text] = nil
            end
        end
    elseif operation == CONNECT then
        ok, out = task.run(me, internal.run_on_connect)
        if ok then
            ok, out = task.run(me, internal.run_on_start)
        end
        out = ok and '' or out
    elseif operation == LEAVE or operation == DISCONNECT then
        if not me.session.has_left then
            me.session.has_left = true
            raw.pcall(internal.run_on_disconnect, me)
            task.lift_limit()
        end
        if operation == LEAVE then
            return ''
        end
        internal.session_end(me.session)
        internal.fiber_forget(me)
        return ''
    elseif operation == CHECK then
        if byte(text, 1) == BACKSLASH then
            return 'complete'
        end
        local chunk, _, unfinished = load_statement(text)
        return chunk and 'complete' or unfinished and '' or 'wrong'
    elseif operation == LEFT_REMOTE then
        ok, out = task.run(me, internal.run_on_client_disconnect)
        out = ok and '' or out
    elseif operation == FAIL then
        return fail(me, text)
    elseif operation == DENY then
        ok, out = task.run(me, internal.access.deny, 'Execute', text, '')
    elseif operation == STYLE then
        return output.style(me.session)
    elseif operation == EXCHANGE then
        return internal.exchange(me, text)
    end
    if not ok then
        out = reply_with_error(me, out, operation == STATEMENT or operation == STATEMENT_OPEN or operation == DENY)
    end
    if type(out) == 'table' then
        return raw.unpack(out)          -- a tagged string in several parts
    end
    return out
end

local function session_main(id, ...)
    local me = task.new_record({session = internal.session_new(id, ...)})
    task.adopt(me)
    internal.fiber_of_session(me)
    local operation, text = yield(me.fid .. '')
    while true do
        operation, text = yield(perform(me, operation, text))
    end
end

-- The most frames between an error and the script's code that are searched.
local FRAMES_MAX = 100

-- The position in a script of the code that has raised an error.
local function position_in(name)
    for level = 2, FRAMES_MAX do
        local info = raw.getinfo(level, 'Sl')
        if not info then
            return nil
        elseif info.source == '@' .. name then
            return name .. ':' .. info.currentline
        end
    end
end

-- Runs a file's text as admin, without a session. Returns '' or the error's text, which begins with the file and the line.
local function script_main(name)
    local me = task.new_record({session = internal.background, name = 'init'})
    task.adopt(me)
    local text = yield(me.fid .. '')
    local chunk, message = load_text(text, '@' .. name, true)
    if not chunk then
        return internal.with_script_name(message, name)
    end
    local position
    local ok, value = task.run(me, function()
        local ended, problem = raw.xpcall(chunk, function(problem)
            me.user_code = false        -- the handler is not interrupted
            position = position_in(name)
            return problem
        end)
        return ended or raw.error(problem, 0)
    end)
    if ok then
        return ''
    end
    local text = value == KILL and 'the script was stopped' or task.text_of(me, value)
    local with_name = internal.with_script_name(text, name)
    -- Most errors of Lua and of users begin with a position.
    if position and not find(with_name, '^:%d+:', #name + 1) then
        return position .. ': ' .. text
    end
    return with_name
end

internal.session_main, internal.script_main = session_main, script_main
