-- What a statement in another language asks of Lua. Python sends it to the session's coroutine while that runs nothing.
-- Needs: kernel/compiler, rights/access, wire/format, wire/packed
local internal = ...
local raw, task, packed = internal.raw, internal.task, internal.packed
local error, setfenv, type, unpack = raw.error, raw.setfenv, raw.type, raw.unpack

local ERROR = '!'

-- The packed list of a statement's values. `request` is a packed list: the statement, the number of its arguments, and the
-- arguments.
local function run(me, request)
    local asked = packed.value_of_program(request, 1)
    local chunk, message = internal.load_statement(asked[1])
    if not chunk then
        return error(message, 0)
    end
    if me.session.scope == internal.access.STALE then
        internal.access.apply(me.session)
    end
    if me.session.scope then
        setfenv(chunk, me.session.scope)
    end
    return packed.list('=', chunk(unpack(asked, 3, 2 + asked[2])))
end

-- Runs a statement of Lua for one in another language: '=' and the packed list of its values, or '!' and the text of the
-- error.
function internal.exchange(me, request)
    local ok, answer = task.run(me, run, me, request)
    if ok then
        return answer
    end
    if answer == internal.KILL then
        return ERROR
    end
    task.make_room(answer == internal.OUT_OF_MEMORY)
    return ERROR .. internal.strip_position(type(answer) == 'string' and answer or task.text_of(me, answer))
end
