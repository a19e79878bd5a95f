-- Python functions, as Lua sees them: the program's own services, and what it exposes to users. Arguments and results are
-- copied through packed strings; no Python object, not even a proxy, ever exists on this side.
-- Needs: kernel/task, wire/packed
local internal, packed_services = ...
local raw, task, packed = internal.raw, internal.task, internal.packed
local byte, error, next, select = raw.byte, raw.error, raw.next, raw.select

-- Calls the function with that number, as 'number:'.
local function call(number, ...)
    local answer = task.call_python(packed.list(number, ...))
    local value = packed.value(answer, 2)
    local mark = byte(answer, 1)
    if mark == 33 then                  -- '!': it raised
        return error(value, 0)
    elseif mark == 94 then              -- '^': an error of Tarantool's, by name
        if value[1] == 'ACCESS_DENIED' then
            return internal.access.deny(value[2], value[3], value[4], value[5])
        end
        return internal.raise(raw.unpack(value))
    end
    return value
end
internal.call_python = call

-- What belongs to `owner` may be called as owner.name(...) and, as Lua's habit is, as owner:name(...).
local function proxy(id, owner)
    local number = id .. ':'
    return function(...)
        if owner and (...) == owner then
            return call(number, select(2, ...))
        end
        return call(number, ...)
    end
end

-- A spec is {call = id} for a function, {names = {name = spec}} for what holds several, {value = ...} for plain data.
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

-- What the server does for trusted files, by name: a function of plain values.
local services = packed.value(packed_services)
function internal.service(name)
    return services[name] and proxy(services[name]) or function()
        return error('there is no server here to do that: ' .. name, 0)
    end
end

-- Start-up only: makes what `described` holds, packed, globals of users. Returns the name that is taken already, or ''.
function internal.expose(described)
    for name, spec in next, packed.value(described) do
        if _G[name] ~= nil then
            return name
        end
        _G[name] = build(spec)
    end
    return ''
end
