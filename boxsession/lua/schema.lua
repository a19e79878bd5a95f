-- box.schema: users, roles, functions and what is granted. The rules are access.py's; here is who asks.
local internal = ...
local raw, access = internal.raw, internal.access
local error, select, type = raw.error, raw.select, raw.type
local ask, hash = internal.service('access'), internal.service('password_hash')

local schema = {user = {}, role = {}, func = {}}

-- A function of box.schema, `changes` for one that changes rights. Arguments go in a table, since nil is one.
local function operation(kind, verb, changes)
    local name = kind .. '_' .. verb
    schema[kind][verb] = function(...)
        local answer = ask(name, access.effective().uid, select('#', ...), ...)
        if changes then
            access.changed()
            return
        end
        return answer
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

-- What is kept of a password.
function schema.user.password(text)
    if type(text) ~= 'string' then
        return error('Usage: box.schema.user.password(password)', 0)
    end
    return hash(text)
end

_G.box.schema = schema
