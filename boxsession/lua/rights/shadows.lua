-- setmetatable and getmetatable for restricted code. The table gets a shadow instead of the metatable: a copy in which a
-- door (a wrapper) replaces each metamethod that is a function. The door calls the metamethod only in the session's own
-- restricted code; for others the value is plain data.
--
-- Invariant: no code of a restricted session runs, and sees its arguments, when another user's code prints, compares,
-- indexes or formats the session's tables. The shadow is updated each time the metatable is set.
-- Needs: rights/access, rights/granted, rights/views
local internal = ...
local raw, task, access = internal.raw, internal.task, internal.access
local error, getmetatable, next, rawequal, rawget, rawset, setmetatable, type = raw.error, raw.debug_getmetatable, raw.next,
    raw.rawequal, raw.rawget, raw.rawset, raw.setmetatable, raw.type
local is_foreign, refuse = access.is_foreign, internal.granted.refuse
local is_view, no_write = internal.views.is_view, internal.views.no_write

local EVENTS = {'__index', '__newindex', '__call', '__tostring', '__serialize', '__copy', '__eq', '__lt', '__le', '__concat',
                '__add', '__sub', '__mul', '__div', '__mod', '__pow', '__unm', '__len', '__mode', '__metatable'}
-- Replacements of metamethods for other users' code; operations without one are refused.
local PLAIN = {
    __index = function() end,
    __newindex = function(...) rawset(...) end,
    __tostring = function() return 'table' end,
    __serialize = function(value) return value end,
    __copy = function(value)
        local copy = {}
        for key, item in next, value do
            copy[key] = item
        end
        return copy
    end,
    __eq = function() return false end,
}
-- Keys of a shadow: its original metatable, and the values by event from which it was made.
local ORIGINAL, SOURCES = {}, {}
-- Metatable -> shadow; event -> function -> door. Both are weak, so they keep nothing alive.
local shadows, doors = setmetatable({}, {__mode = 'kv'}), {}
for index = 1, #EVENTS do
    doors[EVENTS[index]] = setmetatable({}, {__mode = 'kv'})
end

-- One door for each function: Lua calls __eq, __lt and __le only if both values have the same metamethod.
local function door(event, func)
    local known = doors[event][func]
    if known then
        return known
    end
    local plain = PLAIN[event] or refuse
    local function made(...)
        if is_foreign() then
            return plain(...)
        end
        return func(...)
    end
    return task.first(doors[event], func, made)
end

local function shadow_of(meta)
    local shadow = shadows[meta]
    if not shadow then
        shadow = {[ORIGINAL] = meta, [SOURCES] = {}}
        shadows[meta] = shadow
    end
    local sources = shadow[SOURCES]
    for event, value in next, meta do
        if doors[event] and not rawequal(sources[event], value) then
            sources[event] = value
            shadow[event] = type(value) == 'function' and door(event, value) or value
        end
    end
    for event in next, sources do
        if rawget(meta, event) == nil then
            sources[event], shadow[event] = nil, nil
        end
    end
    return shadow
end

-- The metatable that restricted code has set, or nil: other metatables are shared and must not be given out.
local function own_meta(value)
    local shadow = type(value) == 'table' and getmetatable(value)
    return shadow and rawget(shadow, ORIGINAL)
end

local shadowing = {}

function shadowing.getmetatable(value)
    local meta = own_meta(value)
    local shown = meta and rawget(meta, '__metatable')
    if shown ~= nil then
        return shown
    end
    return meta or nil
end

function shadowing.setmetatable(value, meta)
    if is_view(value) then
        return no_write()
    elseif type(value) ~= 'table' then
        internal.exposed.refuse_change(value)
        return error("bad argument #1 to 'setmetatable' (table expected, got " .. type(value) .. ')', 2)
    elseif meta ~= nil and type(meta) ~= 'table' then
        return error("bad argument #2 to 'setmetatable' (nil or table expected)", 2)
    end
    local old = getmetatable(value)
    if old and (not rawget(old, ORIGINAL) or rawget(old, '__metatable') ~= nil) then
        return error('cannot change a protected metatable', 2)
    end
    return setmetatable(value, meta and shadow_of(meta))
end

internal.shadowing = shadowing
