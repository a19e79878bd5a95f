-- The names that the program exposes. They are not in _G itself: the metatable of _G finds them and refuses assignments, so
-- no session takes a name away from the others. And the help on them.
-- Needs: library/box, library/exposed
local internal = ...
local raw, packed, blame, exposed = internal.raw, internal.packed, internal.guard.blame, internal.exposed
local error, match, next, rawget, rawset, select, setmetatable, type = raw.error, raw.match, raw.next, raw.rawget, raw.rawset,
    raw.select, raw.setmetatable, raw.type
local getmetatable, is_object = raw.debug_getmetatable, exposed.is_object
local globals = _G

-- The exposed values by name, and the metatable that users have given to _G.
local values = {}
local users_meta
-- By name: a line and a text.
local help = {}

local function refuse(name)
    return error('`' .. name .. '` is exposed by the program to all sessions and cannot be replaced: choose another name, or '
                 .. 'a local variable', 0)
end

local function find_behind(_, key)
    local value = internal.classic_globals.__index(globals, key)
    local index = users_meta and rawget(users_meta, '__index')
    if value ~= nil or index == nil then
        return value
    elseif type(index) == 'function' then
        return index(globals, key)
    end
    return index[key]
end

-- Raises if a global has an exposed name.
function exposed.check_assignment(name)
    if rawget(values, name) ~= nil then
        return refuse(name)
    end
end

local function assign(_, key, value)
    exposed.check_assignment(key)
    local newindex = users_meta and rawget(users_meta, '__newindex')
    if newindex == nil then
        return rawset(globals, key, value)
    elseif type(newindex) == 'function' then
        return newindex(globals, key, value)
    end
    newindex[key] = value
end

local globals_meta, values_meta = {__metatable = false, __index = values}, {}

-- Sets the metatable of _G that users see.
local function set_users_meta(given)
    users_meta = given
    values_meta.__index, globals_meta.__newindex = find_behind, assign
end

-- The same for trusted code. `given` or nil: its functions are called directly, so that they see the caller's level, and
-- __newindex calls check_assignment() itself.
function exposed.set_globals_meta(given)
    if next(values) == nil then
        setmetatable(globals, given)
        return
    end
    set_users_meta(given)
    if given then
        values_meta.__index, globals_meta.__newindex = given.__index or find_behind, given.__newindex or assign
    end
end

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
        values[name] = exposed.build(spec, name)
    end
    help = described.help
    set_users_meta(nil)
    setmetatable(values, values_meta)
    setmetatable(globals, globals_meta)
    function globals.rawset(...)
        local list, key, value = ...
        if list == globals and key ~= nil and rawget(values, key) ~= nil then
            return refuse(key)
        end
        if type(list) ~= 'table' then
            exposed.refuse_change(list)
            return error("bad argument #1 to 'rawset' (table expected, got " .. type(list) .. ')', 2)
        elseif key == nil or key ~= key or select('#', ...) < 3 then
            return blame(rawset, ...)
        end
        return rawset(list, key, value)
    end
    function globals.setmetatable(...)
        local list, given = ...
        if type(list) ~= 'table' then
            exposed.refuse_change(list)
            return error("bad argument #1 to 'setmetatable' (table expected, got " .. type(list) .. ')', 2)
        elseif given ~= nil and type(given) ~= 'table' or select('#', ...) < 2 then
            return error("bad argument #2 to 'setmetatable' (nil or table expected)", 2)
        elseif list == globals then
            set_users_meta(given)
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
    local owner
    for word in raw.gmatch(path, '[^.]+') do
        if owner == nil then
            owner = rawget(values, word)
        else
            owner = is_object(owner) and owner[word]
        end
        if not owner then
            return nil
        end
    end
    return is_object(owner) and exposed.help_on_member(owner, key) or nil
end
