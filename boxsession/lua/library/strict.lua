-- The module strict: undeclared global variables are errors. Behaviour and messages: Tarantool 2.6. It is in force for all
-- sessions, as in Tarantool for all fibers.
-- Needs: library/box, library/exposed_names, library/modules
local internal = ...
local raw = internal.raw
local error, getinfo, next, rawset, tostring = raw.error, raw.getinfo, raw.next, raw.rawset, raw.tostring
local classic, set_globals_meta, check_assignment = internal.classic_globals, internal.exposed.set_globals_meta,
    internal.exposed.check_assignment

local strict = {}
internal.modules.strict = strict

-- The kind of the function that uses a global, `level` calls above: 'main' is a whole chunk, 'C' is C or this package.
local BUILTIN = '=builtin/'
local function what(level)
    local info = getinfo(level + 1, 'S')
    return info and raw.sub(info.source, 1, #BUILTIN) ~= BUILTIN and info.what or 'C'
end

function strict.on()
    local declared = {}
    set_globals_meta({
        __declared = declared,
        __newindex = function(list, name, value)
            check_assignment(name)
            if not declared[name] then
                if what(2) == 'Lua' then
                    return error("assign to undeclared variable '" .. tostring(name) .. "'", 2)
                end
                declared[name] = true
            end
            rawset(list, name, value)
        end,
        __index = function(list, name)
            local value = classic.__index(list, name)
            if value == nil and not declared[name] and what(2) ~= 'C' then
                return error("variable '" .. tostring(name) .. "' is not declared", 2)
            end
            return value
        end,
    })
end

-- Sessions of the classic dialect find `session` by a metatable.
function strict.off()
    local meta
    for _, session in next, internal.sessions do
        if session.dialect == 'classic' then
            meta = classic
        end
    end
    set_globals_meta(meta)
end
