-- Calls Python functions: services for trusted code, and functions of the program.
--
-- Invariant: arguments and results are copied through packed strings. No Python object, not even a proxy, exists in Lua.
-- Needs: kernel/task, wire/packed
local internal, packed_services = ...
local raw, task, packed = internal.raw, internal.task, internal.packed
local byte, error = raw.byte, raw.error

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

-- Services of the server for trusted code, by name. They take and return plain values.
local services = packed.value(packed_services)
function internal.service(name)
    local number = services[name] and services[name] .. ':'
    return function(...)
        if not number then
            return error('this needs a running server: ' .. name, 0)
        end
        return call_and_read(packed.value_of_service, number, ...)
    end
end
