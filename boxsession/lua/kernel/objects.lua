-- Makes classes of objects for users. An object is an opaque userdata; its state is in a table that only the class's module
-- can reach.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local error, newproxy, select, setmetatable, type = raw.error, raw.newproxy, raw.select, raw.setmetatable, raw.type

-- Makes a class; `name` is for error messages. Returns its methods (a table to fill), its metatable, make(state), and
-- state_of(object, ...), which raises if the object is not of this class.
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
