-- Python functions for Lua: services for trusted code, and the functions that the program exposes to users.
--
-- Invariant: arguments and results are copied through packed strings. No Python object, not even a proxy, exists in Lua.
-- Needs: kernel/task, wire/packed
local internal, packed_services = ...
local raw, task, packed = internal.raw, internal.task, internal.packed
local byte, error, next, select = raw.byte, raw.error, raw.next, raw.select

-- Calls a function. `read` makes the value of the packed result; `number` is the function's number and a colon: '12:'.
local function call_and_read(read, number, ...)
    local answer = task.call_python(packed.list(number, ...))
    local value = read(answer, 2)
    local mark = byte(answer, 1)
    if mark == 33 then                  -- '!': an exception
        return error(value, 0)
    elseif mark == 94 then              -- '^': an error that Tarantool has, by name
        if value[1] == 'ACCESS_DENIED' then
            return internal.access.deny(value[2], value[3], value[4], value[5])
        end
        return internal.raise(raw.unpack(value))
    end
    return value
end

local function call(number, ...)
    return call_and_read(packed.value_of_program, number, ...)
end
internal.call_python = call

-- A Lua function that calls a Python function. A function in a table `owner` can also be called as owner:name(...).
local function proxy(id, owner)
    local number = id .. ':'
    return function(...)
        if owner and (...) == owner then
            return call(number, select(2, ...))
        end
        return call(number, ...)
    end
end

-- A spec is {call = id} for a function, {names = {name = spec}} for a table of specs, {value = ...} for plain data.
local function build(spec, owner)
    if spec.call then
        return proxy(spec.call, owner)
    end
    if spec.names then
        local built = {}
        for name, inner in next, spec.names do
            built[name] = build(inner, built)
        end
        return built
    end
    return spec.value
end

-- Services of the server for trusted code, by name. They take and return plain values.
local services = packed.value(packed_services)
function internal.service(name)
    local number = services[name] and services[name] .. ':'
    return function(...)
        if not number then
            return error('this needs a running server: ' .. name, 0)
        end
        return call_and_read(packed.value, number, ...)
    end
end

-- Called at start-up only: sets the exposed names of `described` (packed) as globals. Returns the first name that is
-- already in use, or ''.
function internal.expose(described)
    for name, spec in next, packed.value_of_program(described, 1) do
        if _G[name] ~= nil then
            return name
        end
        _G[name] = build(spec)
    end
    return ''
end
