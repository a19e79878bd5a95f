-- Python functions, as Lua sees them: the program's own services, and what it exposes to users. Arguments and results are
-- copied through packed strings; no Python object, not even a proxy, ever exists on this side. The grammar of a packed value
-- (the same both ways):
--   N nil, Z null, t true, f false, n<length>:<digits>, s<length>:<bytes>, L<values>], M<key><value>...}
-- Needs: kernel/task, wire/tagged
local internal, packed_services = ...
local raw, task, tagged = internal.raw, internal.task, internal.tagged
local NULL, concat, rawget = internal.NULL, raw.concat, raw.rawget
local byte, error, find, format, next, select, setmetatable, sub, tonumber, type = raw.byte, raw.error, raw.find,
    raw.format, raw.next, raw.select, raw.setmetatable, raw.sub, raw.tonumber, raw.type

local unpack_value

local function unpack_text(packed, at)
    local colon = find(packed, ':', at, true)
    local length = tonumber(sub(packed, at, colon - 1))
    return sub(packed, colon + 1, colon + length), colon + length + 1
end

local function unpack_list(packed, at, context, name)
    local list, count, value = {}, 0, nil
    if name then
        context.anchors[name] = list
    end
    while sub(packed, at, at) ~= ']' do
        value, at = unpack_value(packed, at, context)
        count = count + 1
        list[count] = value
    end
    return context and setmetatable(list, context.list_meta) or list, at + 1
end

local function unpack_map(packed, at, context, name)
    local map, key, value = {}, nil, nil
    if name then
        context.anchors[name] = map
    end
    while sub(packed, at, at) ~= '}' do
        key, at = unpack_value(packed, at, context)
        value, at = unpack_value(packed, at, context)
        if key ~= nil and key == key then
            map[key] = value
        end
    end
    return context and setmetatable(map, context.map_meta) or map, at + 1
end

-- Returns the value at `at` and the position behind it. A text of documents has a `context`: its named tables, the
-- metatables that its lists and maps get, and whether nan and inf are refused. `name` is that of the value, if it has one.
function unpack_value(packed, at, context, name)
    local mark = sub(packed, at, at)
    at = at + 1
    if mark == 'n' then
        local text
        text, at = unpack_text(packed, at)
        local number = tonumber(text)
        if context and context.finite and (number ~= number or number == raw.huge or number == -raw.huge) then
            return error('number must not be NaN or Inf', 0)
        end
        return number, at
    elseif mark == 's' then
        return unpack_text(packed, at)
    elseif mark == 't' then
        return true, at
    elseif mark == 'f' then
        return false, at
    elseif mark == 'N' then
        return nil, at
    elseif mark == 'Z' then
        return NULL, at
    elseif mark == '*' then
        name, at = unpack_text(packed, at)
        return context.anchors[name], at
    elseif mark == '&' then
        local value
        name, at = unpack_text(packed, at)
        value, at = unpack_value(packed, at, context, name)
        context.anchors[name] = value
        return value, at
    elseif mark == 'L' then
        return unpack_list(packed, at, context, name)
    end
    return unpack_map(packed, at, context, name)
end

local DEEPEST = 100

local function pack_value(out, value, depth)
    if depth > DEEPEST then
        return error('cannot pass a table that contains itself (or is deeper than ' .. DEEPEST .. ')', 0)
    end
    local kind, forced = type(value), nil
    if kind == 'table' then
        value, forced = tagged.resolve(value)
        kind = type(value)
    end
    local count = #out
    if kind == 'table' then
        local length = forced ~= 'map' and internal.yaml.list_length(value, forced == 'list' and raw.huge or nil)
        out[count + 1] = length and 'L' or 'M'
        if length then
            for index = 1, length do
                pack_value(out, rawget(value, index), depth + 1)
            end
        else
            for key, item in next, value do
                pack_value(out, key, depth + 1)
                pack_value(out, item, depth + 1)
            end
        end
        out[#out + 1] = length and ']' or '}'
    elseif kind == 'string' then
        out[count + 1], out[count + 2], out[count + 3], out[count + 4] = 's', #value, ':', value
    elseif kind == 'number' then
        local text = format('%.17g', value)
        out[count + 1], out[count + 2], out[count + 3], out[count + 4] = 'n', #text, ':', text
    elseif kind == 'boolean' then
        out[count + 1] = value and 't' or 'f'
    elseif value == nil or value == NULL then
        out[count + 1] = 'N'
    else
        return error('cannot pass a ' .. kind .. ' to Python', 0)
    end
end

-- Joined in one go; what is longer in steps, between which others get their turns.
local JOINED_MAX = 1024

-- A function's number and its arguments.
local function pack(id, ...)
    local out = {id, ':L'}
    for index = 1, select('#', ...) do
        pack_value(out, (select(index, ...)), 0)
    end
    local count = #out + 1
    out[count] = ']'
    return count > JOINED_MAX and internal.concat(out) or concat(out)
end

local function call(id, ...)
    local answer = task.call_python(pack(id, ...))
    local value = unpack_value(answer, 2)
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
    return function(...)
        if owner and (...) == owner then
            return call(id, select(2, ...))
        end
        return call(id, ...)
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

-- What yaml.decode() was answered, from `at` on: a list of the values of all documents (itself without a metatable), and
-- how many; or a string. A metatable may be false, for none.
function internal.unpack_decoded(packed, at, list_meta, map_meta, finite)
    local values = unpack_value(packed, at, {anchors = {}, list_meta = list_meta or nil, map_meta = map_meta or nil,
                                             finite = finite})
    return values, type(values) == 'table' and #values or 1
end

-- The value that a whole packed string holds.
function internal.unpack_value(packed)
    return (unpack_value(packed, 1))
end

-- What the server does for trusted files, by name: a function of plain values.
local services = internal.unpack_value(packed_services)
function internal.service(name)
    local id = services[name]
    return function(...)
        if not id then
            return error('there is no server here to do that: ' .. name, 0)
        end
        return call(id, ...)
    end
end

-- Start-up only: makes what `packed` describes a global of users. Returns the name that is taken already, or ''.
function internal.expose(packed)
    for name, spec in next, internal.unpack_value(packed) do
        if _G[name] ~= nil then
            return name
        end
        _G[name] = build(spec)
    end
    return ''
end
