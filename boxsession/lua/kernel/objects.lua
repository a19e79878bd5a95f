-- Objects for users: opaque userdata whose state is in a table that only the module which makes them has.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local error, newproxy, select, setmetatable, type = raw.error, raw.newproxy, raw.select, raw.setmetatable, raw.type

-- A kind of object, by the name that messages use. Returns its methods (to be filled), its metatable, make(state), and
-- state_of(object, ...), which raises for anything else.
function internal.class(name)
    local base = newproxy(true)
    local meta = raw.debug_getmetatable(base)
    local states = setmetatable({}, {__mode = 'k'})
    local methods = {}
    meta.__index, meta.__metatable = methods, false
    meta.__tostring = function()
        return name
    end
    local function state_of(...)
        local state = states[(...)]
        if state == nil then
            local got = select('#', ...) == 0 and 'no value' or type((...))
            return error("bad argument #1 to '?' (" .. name .. ' expected, got ' .. got .. ')', 0)
        end
        return state
    end
    local function make(state)
        local object = newproxy(base)
        states[object] = state
        return object
    end
    return methods, meta, make, state_of
end
