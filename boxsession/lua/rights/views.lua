-- Views: a user with read on universe sees other users' tables, functions and objects as views. A view is a userdata that
-- shows the content field by field and refuses writes and calls.
--
-- Invariant: reading a view calls no user function.
-- Needs: library/errors, library/exposed_names, rights/access, wire/shape
local internal = ...
local raw, task, access, exposed = internal.raw, internal.task, internal.access, internal.exposed
local getmetatable, newproxy, next, rawget, select, setmetatable, type =
    raw.debug_getmetatable, raw.newproxy, raw.next, raw.rawget, raw.select, raw.setmetatable, raw.type
local cdata, DICT = internal.cdata, internal.packed.dict_meta
local current, deny = task.current, access.deny
local READ = access.READ
local globals = _G

local base = newproxy(true)
local view_meta = getmetatable(base)
local targets = setmetatable({}, {__mode = 'k'})        -- view -> {target, name}
local views = setmetatable({}, {__mode = 'kv'})         -- target -> view: one view each, so that views can be compared

local function wrap(value, name)
    if exposed.is_object(value) then
        value = exposed.data(value) or value
    end
    local kind = type(value)
    if kind == 'table' or kind == 'function' or kind == 'thread' or kind == 'userdata' and not cdata[value] then
        local view = views[value]
        if not view then
            view = newproxy(base)
            targets[view] = {value, type(name) == 'string' and name or '?'}
            view = task.first(views, value, view)
        end
        return view
    end
    return value
end

local function is_view(value)
    return type(value) == 'userdata' and targets[value] ~= nil
end

-- The target of a view; raises if the session's user may no longer read it.
local function target_of(view)
    if access.rights(current().session.uid).level < READ then
        return deny('Read', 'universe', '')
    end
    return targets[view][1]
end

local function bare(value)
    if is_view(value) then
        return targets[value][1]
    end
    return value
end

local function no_write()
    return deny('Write', 'universe', '')
end

-- A field, by rawget and __index tables. An __index function is not called: it is denied.
local function field(target, key)
    for _ = 1, 100 do
        if type(target) ~= 'table' then
            return nil
        end
        local value = rawget(target, key)
        if value ~= nil then
            return value
        end
        if target == globals then
            return exposed.value(key)
        end
        local meta = getmetatable(target)
        target = type(meta) == 'table' and rawget(meta, '__index') or nil
        if type(target) == 'function' then
            return deny('Execute', 'function', '__index')
        end
    end
end

function view_meta.__index(view, key)
    if exposed.is_object(targets[view][1]) then
        return deny('Execute', 'function', targets[view][2])       -- live data: reading it calls Python
    end
    return wrap(field(target_of(view), bare(key)), key)
end
view_meta.__newindex = no_write
view_meta.__metatable = false
function view_meta.__call(view)
    return deny('Execute', 'function', targets[view][2])
end
function view_meta.__len(view)
    local target = target_of(view)
    return type(target) == 'table' and #target or 0
end
function view_meta.__tostring(view)
    return type(targets[view][1]) .. ': a view of ' .. targets[view][2]
end

-- Copies a view's target to plain data. No metamethod is called, and the copy has no metatable.
local function bare_copy(value, copies)
    local kind = type(value)
    if kind == 'table' then
        local copy = copies[value]
        if not copy then
            -- A dict of the program stays a map.
            copy = setmetatable({}, getmetatable(value) == DICT and DICT or nil)
            copies[value] = copy
            for key, item in next, value do
                copy[bare_copy(key, copies)] = bare_copy(item, copies)
            end
        end
        return copy
    elseif kind == 'userdata' and not cdata[value] then
        return exposed.is_object(value) and raw.tostring(value) or 'userdata'
    end
    return value
end

-- Copies a value to plain data for the writers. The session's own tables are resolved by __serialize first; views become
-- copies of their targets.
local SHAPES = {list = {__serialize = 'seq'}, map = {__serialize = 'map'}, sequence = {__serialize = 'sequence'},
                mapping = {__serialize = 'mapping'}}
local function reveal(value, copies)
    local resolved, kind, flow = value, nil, nil
    if type(value) == 'table' then
        resolved, kind, flow = internal.shape.resolve(value)
    end
    if is_view(resolved) then
        return bare_copy(target_of(resolved), copies)
    elseif type(resolved) ~= 'table' then
        return resolved
    elseif copies[resolved] then
        return copies[resolved]
    end
    local copy = {}
    copies[resolved] = copy
    for key, item in next, resolved do
        copy[reveal(key, copies)] = reveal(item, copies)
    end
    if kind then
        setmetatable(copy, SHAPES[kind == 'list' and (flow and 'list' or 'sequence') or flow and 'map' or 'mapping'])
    end
    return copy
end

local function revealed(copies, count, value, ...)
    if count == 0 then
        return
    end
    return reveal(value, copies), revealed(copies, count - 1, ...)
end

-- The values of a restricted session's reply as plain data.
function internal.revealed(...)
    return revealed({}, select('#', ...), ...)
end

-- The type of a view's target.
local function type_of(view)
    return type(targets[view][1])
end

internal.views = {wrap = wrap, is_view = is_view, target_of = target_of, bare = bare, no_write = no_write, type_of = type_of}
