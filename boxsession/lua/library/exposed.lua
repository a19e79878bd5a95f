-- Objects for what the program exposes: a front of a table, which was copied when the console started and refuses writes, or
-- live data, where each access asks Python.
--
-- Invariant: data() calls nothing, so completion and views use only that.
-- Needs: kernel/objects, kernel/stdlib, library/calls
local internal = ...
local raw = internal.raw
local error, gsub, match, next, select, setmetatable, sub = raw.error, raw.gsub, raw.match, raw.next, raw.select,
    raw.setmetatable, raw.sub
local tostring, type, math_max = raw.tostring, raw.type, raw.max
local getmetatable = raw.debug_getmetatable
local call_python = internal.call_python

local exposed = {}
internal.exposed = exposed

-- The deepest path to a part of live data, and the longest key in a name.
local DEEPEST, LONGEST = 100, 60

-- The state of an object: `name`, `root` (the name of the exposed object that it is part of, on which a grant is checked: no
-- key has a part in it), and a front's `data` (whether it holds functions: `has_functions`), or the `number` of live
-- data, as call_python() takes it, and the `path` to a part of it. An object for a restricted session has `sandbox`, a table
-- of check(), which raises unless it may be used, and call(root, name, function, ...), which calls a function inside.
local _, meta, make, state_of = internal.class('exposed')

local function is_object(value)
    return type(value) == 'userdata' and getmetatable(value) == meta
end
exposed.is_object = is_object

-- The full names of functions, for help().
local names = setmetatable({}, {__mode = 'k'})

local function state_to_use(object)
    local state = state_of(object)
    if state.sandbox then
        state.sandbox.check(state.root)
    end
    return state
end

local function inner_name(state, key)
    local text = tostring(key)
    if #text > LONGEST then
        text = gsub(sub(text, 1, LONGEST), '[\192-\255]?[\128-\191]*$', '') .. '...'
    elseif type(key) == 'string' and match(key, '^[%a_][%w_]*$') then
        return state.name .. '.' .. key
    end
    return state.name .. '[' .. text .. ']'
end

local function ask(state, operation, ...)
    return call_python(state.number, operation, state.path, ...)
end

local function front(state, key, value)
    if type(value) == 'table' then
        return make({name = inner_name(state, key), root = state.root, data = value, has_functions = state.has_functions,
                     sandbox = state.sandbox})
    elseif type(value) == 'function' and state.sandbox then
        local name = inner_name(state, key)
        return function(...)
            if is_object((...)) and state_of((...)).data == state.data then
                return state.sandbox.call(state.root, name, value, select(2, ...))
            end
            return state.sandbox.call(state.root, name, value, ...)
        end
    end
    return value
end

local function part(state, key)
    if #state.path >= DEEPEST then
        return error('a path into live data has at most ' .. DEEPEST .. ' steps: ' .. state.name .. ' is that deep', 0)
    end
    local path = {}
    for index = 1, #state.path do
        path[index] = state.path[index]
    end
    path[#path + 1] = key
    return make({name = inner_name(state, key), root = state.root, number = state.number, path = path,
                 sandbox = state.sandbox})
end

local function method(state, key)
    local function called(...)
        if state.sandbox then
            state.sandbox.check(state.root)
        end
        local first = ...
        if is_object(first) and state_of(first).number == state.number then
            return ask(state, 'call', key, select(2, ...))
        end
        return ask(state, 'call', key, ...)
    end
    names[called] = inner_name(state, key)
    return called
end

function meta.__index(object, key)
    local state = state_to_use(object)
    if state.data then
        return front(state, key, state.data[key])
    end
    local answer = ask(state, 'get', key)
    if answer[1] == 'method' then
        return method(state, key)
    elseif answer[1] == 'part' then
        return part(state, key)
    end
    local value = answer[2]
    if type(value) == 'table' then
        return make({name = inner_name(state, key), root = state.root, data = value, sandbox = state.sandbox})
    elseif value == internal.NULL then
        return nil
    end
    return value
end

local function refuse(state, name)
    if state.number then
        return error(name .. ' is live data of the program and not a table: change its items with ' .. name .. '[key] = value', 0)
    elseif state.has_functions then
        return error(name .. ' belongs to the program and cannot be changed: use a name of your own', 0)
    end
    return error(name .. ' cannot be changed: `' .. match(name, '^[%w_]+') .. "` is a copy of the program's data, which would "
                 .. 'stay as it is. Change a copy of your own, table.deepcopy(' .. state.name .. '); the program can expose '
                 .. 'live data with Live()', 0)
end

function meta.__newindex(object, key, value)
    local state = state_to_use(object)
    local name = inner_name(state, key)
    if state.number then
        return ask(state, 'set', key, value, value == nil)
    end
    return refuse(state, name)
end

-- Raises for an object that a function which changes tables was given. Returns for other values.
function exposed.refuse_change(value)
    if is_object(value) then
        local state = state_to_use(value)
        return refuse(state, state.name)
    end
end

function meta.__len(object)
    local state = state_to_use(object)
    return state.data and #state.data or ask(state, 'size')
end

function meta.__tostring(object)
    local state = state_of(object)
    return (state.number and 'live: ' or 'exposed: ') .. state.name
end

function meta.__eq(a, b)
    a, b = state_of(a), state_of(b)
    if a.data ~= b.data or a.number ~= b.number then
        return false
    elseif a.data ~= nil then
        return true
    end
    for index = 1, math_max(#a.path, #b.path) do
        if a.path[index] ~= b.path[index] then
            return false
        end
    end
    return true
end

-- The content as a table. That of a front must not be changed.
local function content(object)
    local state = state_to_use(object)
    return state.data or ask(state, 'whole')
end
exposed.content, meta.__serialize = content, content

-- The table of a front, nil for live data. Calls nothing.
function exposed.data(object)
    return state_of(object).data
end

function exposed.name(object)
    return state_of(object).name
end

-- For pairs(), ipairs(), and functions that take a list.
function exposed.pairs(object)
    local state = state_to_use(object)
    if state.data then
        return function(_, key)
            local found, value = next(state.data, key)
            return found, front(state, found, value)
        end, object, nil
    end
    local keys = ask(state, 'keys')
    if type(keys) == 'number' then
        return exposed.ipairs(object)
    end
    local at = 0
    return function()
        at = at + 1
        local key = keys[at]
        if key ~= nil then
            return key, object[key]
        end
    end, object, nil
end

function exposed.ipairs(object)
    return function(_, index)
        local value = object[index + 1]
        if value ~= nil then
            return index + 1, value
        end
    end, object, 0
end

function exposed.list(object)
    local list = {}
    for index = 1, #object do
        list[index] = object[index]
    end
    return list
end

-- A copy that the caller may change. Functions are left out: they cannot be copied.
local function copied(value)
    if type(value) ~= 'table' then
        return value
    end
    local copy = setmetatable({}, getmetatable(value))
    for key, item in next, value do
        copy[key] = copied(item)
    end
    return copy
end
function exposed.copy(object)
    return copied(content(object))
end

-- The same object for a restricted session.
function exposed.sandboxed(object, sandbox)
    local state = state_of(object)
    return make({name = state.name, root = state.name, data = state.data, has_functions = state.has_functions, number = state.number,
                 path = state.path, sandbox = sandbox})
end

-- Building -------------------------------------------------------------------------------------------------------------

-- A Lua function that calls a Python function. A function in a table `data` can also be called as owner:name(...).
local function proxy(id, name, data)
    local number = id .. ':'
    local function called(...)
        local first = ...
        if data and is_object(first) and state_of(first).data == data then
            return call_python(number, select(2, ...))
        end
        return call_python(number, ...)
    end
    names[called] = name
    return called
end

-- A spec is {call = id} for a function, {names = {name = spec}} for a table of specs, {live = id} for live data, {value = ...}
-- for plain data.
local function build(spec, name, owner)
    if spec.call then
        return proxy(spec.call, name, owner)
    elseif spec.live then
        return make({name = name, number = spec.live .. ':', path = {}})
    elseif spec.names then
        local data = {}
        for key, inner in next, spec.names do
            data[key] = build(inner, name .. '.' .. key, data)
        end
        return data
    end
    return spec.value
end

-- The value of a spec, for statements.
function exposed.build(spec, name)
    local value = build(spec, name)
    if type(value) == 'table' then
        return make({name = name, data = value, has_functions = spec.names ~= nil})
    end
    return value
end

-- The full name of an exposed function or object; nil for other values.
function exposed.name_of(value)
    if is_object(value) then
        return state_of(value).name
    end
    return type(value) == 'function' and names[value] or nil
end

-- The help on a member of live data; nil for other objects.
function exposed.help_on_member(object, key)
    local state = state_of(object)
    return state.number and ask(state, 'help', key) or nil
end
