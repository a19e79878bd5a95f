-- box.schema: users, roles, functions and grants. Arguments are checked here for type and size; users/schema.py has the
-- rules, and gets the uid of the caller.
-- Needs: library/box, rights/access
local internal = ...
local raw, access = internal.raw, internal.access
local error, select, type = raw.error, raw.select, raw.type
local TEXT_MAX, ARGUMENTS = 2^16, 5
local ask, hash = internal.service('access'), internal.service('password_hash')

-- Raises unless a value is plain (text, number, boolean, nil) or a small table of plain values.
local OPTIONS_MAX = 16
local function check(value, depth)
    local kind = type(value)
    if kind == 'table' and depth == 0 then
        local count = 0
        for key, item in raw.next, value do
            check(key, 1)
            check(item, 1)
            count = count + 1
            if count > OPTIONS_MAX then
                return error('Illegal parameters, too many options', 0)
            end
        end
    elseif kind == 'string' and #value > TEXT_MAX then
        return error('Illegal parameters, a text is too long', 0)
    elseif kind ~= 'nil' and kind ~= 'string' and kind ~= 'number' and kind ~= 'boolean' and value ~= internal.NULL then
        return error('Illegal parameters, a ' .. kind .. ' is not allowed', 0)
    end
end

local schema = {user = {}, role = {}, func = {}}

-- Makes a function of box.schema. `changes`: it changes rights and returns nothing.
local function operation(kind, verb, changes)
    local name = kind .. '_' .. verb
    schema[kind][verb] = function(...)
        local count = select('#', ...)
        count = count < ARGUMENTS and count or ARGUMENTS
        for index = 1, count do
            check((select(index, ...)), 0)
        end
        local answer = ask(name, access.effective().uid, count, ...)
        if not changes then
            return answer
        end
    end
end
for kind, verbs in raw.next, {user = {'create', 'drop', 'passwd', 'grant', 'revoke', 'enable', 'disable'},
                              role = {'create', 'drop', 'grant', 'revoke'}, func = {'create', 'drop'}} do
    for index = 1, #verbs do
        operation(kind, verbs[index], true)
    end
end
for kind, verbs in raw.next, {user = {'exists', 'info'}, role = {'exists', 'info'}, func = {'exists'}} do
    for index = 1, #verbs do
        operation(kind, verbs[index], false)
    end
end

-- The hash of a password, as the store keeps it.
function schema.user.password(text)
    if type(text) ~= 'string' then
        return error('Usage: box.schema.user.password(password)', 0)
    end
    return hash(text)
end

-- Tarantool's constants. Those of spaces, indexes and sequences are there for scripts that read them.
for name, number in raw.next, {
    NAME_MAX = 65000, FIELD_MAX = 2147483647, FORMAT_ID_MAX = 65534, INDEX_MAX = 128, INDEX_FIELD_MAX = 32767,
    INDEX_PART_MAX = 255, SPACE_MAX = 2147483647, REPLICA_MAX = 32, SQL_BIND_PARAMETER_MAX = 65000, SYSTEM_ID_MIN = 256,
    SYSTEM_ID_MAX = 511, GUEST_ID = 0, ADMIN_ID = 1, PUBLIC_ROLE_ID = 2, SUPER_ROLE_ID = 31, SYSTEM_USER_ID_MIN = 0,
    SYSTEM_USER_ID_MAX = 2,
    VINYL_DEFERRED_DELETE_ID = 257, SCHEMA_ID = 272, COLLATION_ID = 276, VCOLLATION_ID = 277, SPACE_ID = 280, VSPACE_ID = 281,
    SEQUENCE_ID = 284, SEQUENCE_DATA_ID = 285, VSEQUENCE_ID = 286, INDEX_ID = 288, VINDEX_ID = 289, FUNC_ID = 296,
    VFUNC_ID = 297, USER_ID = 304, VUSER_ID = 305, PRIV_ID = 312, VPRIV_ID = 313, CLUSTER_ID = 320, TRIGGER_ID = 328,
    TRUNCATE_ID = 330, SPACE_SEQUENCE_ID = 340, FK_CONSTRAINT_ID = 356, CK_CONSTRAINT_ID = 364, FUNC_INDEX_ID = 372,
    SESSION_SETTINGS_ID = 380,
} do
    schema[name] = number
end

_G.box.schema = schema
