-- What the program exposes. An exposed name is not in _G itself: the metatable of _G finds it and refuses its assignment, so
-- no session takes it away from the others. Exposed objects and data are objects of one class, which refuse writes too: a
-- front of a table, which was copied when the console started, or live data, where each access asks Python.
--
-- Invariant: only reading a table of this file never calls Python; completion and views use field() and content() alone.
-- Needs: kernel/objects, kernel/stdlib, library/calls
local internal = ...
local raw, packed, blame = internal.raw, internal.packed, internal.guard.blame
local error, match, next, rawget, rawset, select, setmetatable, tostring, type = raw.error, raw.match, raw.next, raw.rawget,
    raw.rawset, raw.select, raw.setmetatable, raw.tostring, raw.type
local getmetatable = raw.debug_getmetatable
local call_python = internal.call_python
local globals = _G

local exposed = {}
internal.exposed = exposed

-- The state of an object: `name`, and a front's `data` (whether it holds functions: `has_functions`), or the `number` of live
-- data, as call_python() takes it, and the `path` to a part of it. An object for a restricted session has `sandbox`, a table
-- of check(), which raises unless it may be used, and call(name, ...), which calls the function of that name.
local _, meta, make, state_of = internal.class('exposed')

local function is_object(value)
    return type(value) == 'userdata' and getmetatable(value) == meta
end
exposed.is_object = is_object

-- Names of functions and their help, for help() and box.info.exposed.
local names = setmetatable({}, {__mode = 'k'})
local help = {}

local function state_to_use(object)
    local state = state_of(object)
    if state.sandbox then
        state.sandbox.check(state.name)
    end
    return state
end

local function inner_name(state, key)
    if type(key) == 'string' and match(key, '^[%a_][%w_]*$') then
        return state.name .. '.' .. key
    end
    return state.name .. '[' .. tostring(key) .. ']'
end

local function ask(state, operation, ...)
    return call_python(state.number, operation, state.path, ...)
end

local function front(state, key, value)
    if type(value) == 'table' then
        return make({name = inner_name(state, key), data = value, has_functions = state.has_functions, sandbox = state.sandbox})
    elseif type(value) == 'function' and state.sandbox then
        local name = inner_name(state, key)
        return function(...)
            if is_object((...)) and state_of((...)).data == state.data then
                return state.sandbox.call(name, select(2, ...))
            end
            return state.sandbox.call(name, ...)
        end
    end
    return value
end

local function part(state, key)
    local path = {}
    for index = 1, #state.path do
        path[index] = state.path[index]
    end
    path[#path + 1] = key
    return make({name = inner_name(state, key), number = state.number, path = path, sandbox = state.sandbox})
end

local function method(state, key)
    local function called(...)
        if state.sandbox then
            state.sandbox.check(state.name)
        end
        local first = ...
        if is_object(first) and state_of(first).number == state.number then
            return ask(state, 'call', key, select(2, ...))
        end
        return ask(state, 'call', key, ...)
    end
    names[called] = state.name .. '.' .. tostring(key)
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
        return make({name = inner_name(state, key), data = value, sandbox = state.sandbox})
    elseif value == internal.NULL then
        return nil
    end
    return value
end

function meta.__newindex(object, key, value)
    local state = state_to_use(object)
    local name = inner_name(state, key)
    if state.number then
        ask(state, 'set', key, value, value == nil)
    elseif state.has_functions then
        return error(name .. ' belongs to the program and cannot be changed: use a name of your own', 0)
    else
        return error(name .. ' cannot be changed: `' .. match(name, '^[%w_]+') .. "` is a copy of the program's data, which would "
                     .. 'stay as it is. Change a copy of your own, table.deepcopy(' .. state.name .. '); the program can expose '
                     .. 'live data with Live()', 0)
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
    return a.data == b.data and a.number == b.number and (a.data ~= nil or a.name == b.name)
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
    return make({name = state.name, data = state.data, has_functions = state.has_functions, number = state.number,
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

-- _G -------------------------------------------------------------------------------------------------------------------

-- The exposed values by name, and the metatable that users have given to _G.
local values = {}
local users_meta

local function refuse(name)
    return error('`' .. name .. '` is exposed by the program to all sessions and cannot be replaced: choose another name, or '
                 .. 'a local variable', 0)
end

local function find_behind(_, key)
    local value = internal.classic_global(globals, key)
    local index = users_meta and rawget(users_meta, '__index')
    if value ~= nil or index == nil then
        return value
    elseif type(index) == 'function' then
        return index(globals, key)
    end
    return index[key]
end

local globals_meta = {__metatable = false, __index = values, __newindex = function(_, key, value)
    if rawget(values, key) ~= nil then
        return refuse(key)
    end
    local newindex = users_meta and rawget(users_meta, '__newindex')
    if newindex == nil then
        return rawset(globals, key, value)
    elseif type(newindex) == 'function' then
        return newindex(globals, key, value)
    end
    newindex[key] = value
end}

-- The value of an exposed name, nil for other names. Calls nothing.
function exposed.value(name)
    return rawget(values, name)
end

-- Called at start-up only. `described`: packed specs and help. Returns the first name that is already in use, or ''.
function internal.expose(described)
    described = packed.value_of_program(described, 1)
    for name, spec in next, described.specs do
        if rawget(globals, name) ~= nil and name ~= 'help' then
            return name
        end
        rawset(globals, name, nil)
        local value = build(spec, name)
        if type(value) == 'table' then
            value = make({name = name, data = value, has_functions = spec.names ~= nil})
        end
        values[name] = value
    end
    help = described.help
    setmetatable(values, {__index = find_behind})
    setmetatable(globals, globals_meta)
    function globals.rawset(...)
        local list, key, value = ...
        if list == globals and key ~= nil and rawget(values, key) ~= nil then
            return refuse(key)
        end
        if type(list) ~= 'table' then
            return error("bad argument #1 to 'rawset' (table expected, got " .. type(list) .. ')', 2)
        elseif key == nil or key ~= key or select('#', ...) < 3 then
            return blame(rawset, ...)
        end
        return rawset(list, key, value)
    end
    function globals.setmetatable(...)
        local list, given = ...
        if type(list) ~= 'table' then
            return error("bad argument #1 to 'setmetatable' (table expected, got " .. type(list) .. ')', 2)
        elseif given ~= nil and type(given) ~= 'table' or select('#', ...) < 2 then
            return error("bad argument #2 to 'setmetatable' (nil or table expected)", 2)
        elseif list == globals then
            users_meta = given
            return list
        end
        local protector = getmetatable(list)
        if protector and rawget(protector, '__metatable') ~= nil then
            return error('cannot change a protected metatable', 2)
        end
        return setmetatable(list, given)
    end
    function globals.getmetatable(...)
        if (...) == globals then
            return users_meta
        end
        return blame(raw.getmetatable, ...)
    end
    return ''
end

-- Help -----------------------------------------------------------------------------------------------------------------

-- The line of each exposed name.
function exposed.lines()
    local lines = setmetatable({}, packed.dict_meta)
    for name, about in next, help do
        lines[name] = about.line
    end
    return lines
end

-- The exposed names, in order; without those inside of objects.
function exposed.names()
    local list = {}
    for name in next, values do
        list[#list + 1] = name
    end
    raw.sort(list)
    return list
end

-- The full name of an exposed function or object; nil for other values.
function exposed.name_of(value)
    if is_object(value) then
        return state_of(value).name
    end
    return type(value) == 'function' and names[value] or nil
end

-- The help on a name, nil if nothing is known.
function exposed.help(name)
    local about = help[name]
    if about then
        return about.text
    end
    local path, key = match(name, '^(.+)[.:]([^.:]+)$')
    if not path then
        return nil
    elseif help[path .. '.' .. key] then
        return help[path .. '.' .. key].text
    end
    local owner = values
    for word in raw.gmatch(path, '[^.]+') do
        owner = (owner == values or is_object(owner)) and owner[word] or nil
    end
    if is_object(owner) and state_of(owner).number then
        return ask(state_of(owner), 'help', key)
    end
end
