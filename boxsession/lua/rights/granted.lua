-- Calls granted functions. Invariant: arguments, results and errors are copied, so a restricted session and the trusted
-- function share no table.
-- Needs: library/errors, library/exposed_names, rights/access, rights/views
local internal = ...
local raw, task, access = internal.raw, internal.task, internal.access
local error, next, select, tostring, type = raw.error, raw.next, raw.select, raw.tostring, raw.type
local gmatch, match, setmetatable, getmetatable = raw.gmatch, raw.match, raw.setmetatable, raw.debug_getmetatable
local exposed, DICT = internal.exposed, internal.packed.dict_meta
local cdata = internal.cdata
local deny, effective = access.deny, access.effective
local is_view, target_of = internal.views.is_view, internal.views.target_of
local globals = _G

local DEEPEST = 100
local function copied(value, copies, depth)
    if is_view(value) then
        value = target_of(value)
    end
    if exposed.is_object(value) then
        value = exposed.content(value)
    end
    local kind = type(value)
    if kind == 'function' or kind == 'thread' or kind == 'userdata' and not cdata[value] then
        return error('cannot pass a ' .. kind .. ' between a granted function and its caller', 0)
    elseif kind ~= 'table' then
        return value
    elseif copies[value] then
        return copies[value]
    elseif depth > DEEPEST then
        return error('cannot pass a table nested deeper than ' .. DEEPEST, 0)
    end
    local copy = setmetatable({}, getmetatable(value) == DICT and DICT or nil)
    copies[value] = copy
    for key, item in next, value do
        copy[copied(key, copies, depth + 1)] = copied(item, copies, depth + 1)
    end
    return copy
end

local function all_copied(copies, count, value, ...)
    if count == 0 then
        return
    end
    return copied(value, copies, 0), all_copied(copies, count - 1, ...)
end

local function results(ok, ...)
    if ok then
        return all_copied({}, select('#', ...), ...)
    end
    local problem = ...
    if type(problem) == 'table' then
        problem = copied(problem, {}, 0)
    elseif type(problem) == 'function' or type(problem) == 'thread' or type(problem) == 'userdata' and not cdata[problem] then
        problem = tostring(problem)
    end
    return error(problem, 0)
end

-- The uid as which a granted function runs, false for the caller's, nil if it is not granted. A grant on an exposed object
-- covers its functions.
local function granted(name)
    local functions = access.rights(effective().uid).functions
    local as = functions[name]
    if as == nil then
        local owner = match(name, '^([^.:]+)[.:]')
        if owner and exposed.is_object(exposed.value(owner)) then
            return functions[owner]
        end
    end
    return as
end

-- Restricted code acts only in its own session, and not inside trusted code.
local is_foreign = access.is_foreign
local function refuse()
    return error('a function of a restricted session does nothing for others', 0)
end

local function guarded(func)
    return function(...)
        if is_foreign() then
            return refuse()
        end
        return func(...)
    end
end

local function find_global(name)
    local found = globals
    for word in gmatch(name, '[^.]+') do
        if type(found) ~= 'table' and not exposed.is_object(found) then
            return nil
        end
        found = found[word]
    end
    return found
end

-- The identity for what granted() returned.
local function identity(as)
    local who = as or effective()
    -- A separate `diag`: the caller must not see the errors that the function caught.
    return {uid = who.uid, user = who.user, trusted = true, diag = {}}
end

-- The function of a name, if it is granted, and the identity as which it runs.
local function need_granted(name)
    local as = granted(name)
    if as == nil then
        return deny('Execute', 'function', name)
    end
    local func = find_global(name)
    if type(func) ~= 'function' then
        return internal.raise('NO_SUCH_PROC', name)
    end
    return func, identity(as)
end

local function call_granted(name, ...)
    local func, who = need_granted(name)
    return results(task.protected(access.run_as, who, func, all_copied({}, select('#', ...), ...)))
end

-- Calls a function inside the exposed object `root`, if one of them is granted. A key that is no identifier, or a long one,
-- is in no name that could be granted.
function internal.call_granted_part(root, name, func, ...)
    local as = granted(name)
    if as == nil then
        as = granted(root)
    end
    if as == nil then
        return deny('Execute', 'function', name)
    end
    return results(task.protected(access.run_as, identity(as), func, all_copied({}, select('#', ...), ...)))
end

-- Calls the function `owner.key` as owner:key(...). The owner itself is passed, not a copy.
function internal.call_granted_method(owner, key, ...)
    local func, who = need_granted(owner .. '.' .. key)
    return results(task.protected(access.run_as, who, func, find_global(owner), all_copied({}, select('#', ...), ...)))
end

internal.call_granted = call_granted

-- Raises a denial if a function is not granted. `asked`: its name as the caller has it, if that is another.
function internal.need_grant(name, asked)
    if granted(name) == nil then
        return deny('Execute', 'function', asked or name)
    end
end

internal.granted = {granted = granted, guarded = guarded, refuse = refuse}
