-- The module uri: addresses and their parts. Behaviour: Tarantool 2.6.
-- Needs: kernel/guard, library/modules
local internal = ...
local raw = internal.raw
local error, find, format, match, sub, type = raw.error, raw.find, raw.format, raw.match, raw.sub, raw.type

-- Characters of names, as a set of a pattern: RFC 3986's unreserved and sub-delims. `%` begins an encoded byte, which is not
-- checked.
local PLAIN = "%w%-_.~!$&'()*+,;="
local LOGIN, PASSWORD, HOST = '^[' .. PLAIN .. '%%]+$', '^[' .. PLAIN .. '%%]*$', '^[' .. PLAIN .. '%%]+$'
local PATH, QUERY = '^[' .. PLAIN .. '%%:@/]*$', '^[' .. PLAIN .. '%%:@/?]*$'
local SERVICE = '^%w+$'
local SCHEME = '^(%a[%w+.%-]*)://(.*)$'
local NUMBER = '^%d+$'
-- Longer texts are no addresses. (The patterns take linear time.)
local LENGTH_MAX = 2^16

-- Cuts `rest` at the first `mark`. Returns what is before and behind it; nil behind it if there is none.
local function cut(rest, mark)
    local at = find(rest, mark, 1, true)
    if at then
        return sub(rest, 1, at - 1), sub(rest, at + 1)
    end
    return rest, nil
end

local OCTET = '%d%d?%d?'
local IPV4 = '^' .. OCTET .. raw.rep('%.' .. OCTET, 3) .. '$'

-- The host and the service: '[::1]:80', 'host:80', 'unix/:/path'. Returns false if they are none.
local function parse_host(made, text)
    local socket = match(text, '^unix/:(/[^/].*)$') or not made.scheme and match(text, '^/[^/].*$')
    if socket then
        local path
        socket, path = cut(socket, ':')
        if not find(socket, PATH) or path and not find(path, PATH) then
            return false
        end
        made.host, made.service, made.unix, made.path = 'unix/', socket, socket, path ~= '' and path or nil
        return true
    end
    local authority, path = match(text, '^([^/]*)(/.*)$')
    authority = authority or text
    if path and not find(path, PATH) then
        return false
    end
    made.path = path
    local inner, service = match(authority, '^%[([%x:.]+)%](.*)$')
    if inner then
        made.host, made.ipv6 = inner, inner
        if service ~= '' and sub(service, 1, 1) ~= ':' then
            return false
        end
        service = service ~= '' and sub(service, 2) or nil
    else
        local host
        host, service = cut(authority, ':')
        if not find(host, HOST) then
            return false
        end
        made.host = host
        made.ipv4 = find(host, IPV4) and host or nil
    end
    if service and service ~= '' then
        if not find(service, SERVICE) then
            return false
        end
        made.service = service
    end
    return true
end

-- A login and password, if there is one, and the host.
local function parse_login(made, text)
    local user, host = match(text, '^([^@/]*)@(.*)$')
    if user then
        local login, password = cut(user, ':')
        if not find(login, LOGIN) or password and not find(password, PASSWORD) then
            return false
        end
        made.login, made.password = login, password
    end
    return parse_host(made, host or text)
end

-- The parts of an address, or nil if it is none.
local function parse(text)
    if #text > LENGTH_MAX then
        return nil
    end
    local made = {}
    local rest, fragment = cut(text, '#')
    local query
    rest, query = cut(rest, '?')
    if fragment and not find(fragment, QUERY) or query and not find(query, QUERY) then
        return nil
    end
    made.query, made.fragment = query, fragment
    if rest == '' then
        return text ~= '' and made or nil
    elseif find(text, NUMBER) then
        made.service = rest
        return made
    elseif sub(rest, 1, 1) == '/' then
        if sub(rest, 2, 2) == '/' or not find(rest, PATH) then
            return nil
        end
        if query or fragment then
            made.path = rest
        else
            made.host, made.service, made.unix = 'unix/', rest, rest
        end
        return made
    end
    local scheme, behind = match(rest, SCHEME)
    made.scheme = scheme
    if scheme and not find(behind, '^[^/]') then
        -- Tarantool takes the scheme for the host if no host follows.
        behind = rest
    end
    return parse_login(made, behind or rest) and made or nil
end

local uri = {}
internal.modules.uri = uri

local function refuse(value, name)
    return error(format("bad argument #2 to '%s' (cannot convert '%s' to 'const char *')", name, type(value)), 0)
end

function uri.parse(text)
    if text == nil then
        return error('Usage: uri.parse(string)', 0)
    elseif type(text) ~= 'string' then
        return refuse(text, 'uri_parse')
    end
    return parse(text)
end

local function part(parts, name)
    local value = parts[name]
    if value == nil or value == internal.NULL then
        return ''
    elseif type(value) ~= 'string' then
        return error(format("cannot convert '%s' to 'const char *'", type(value)), 0)
    end
    return value
end

local function with(before, text, behind)
    return text == '' and '' or before .. text .. behind
end

-- The address of these parts. The password is left out, unless `shows_password` is true.
function uri.format(parts, shows_password)
    if type(parts) ~= 'table' then
        return error('Usage: uri.format(table, [write_password])', 0)
    end
    local host, login, text = part(parts, 'host'), part(parts, 'login'), with('', part(parts, 'scheme'), '://')
    local password, service = part(parts, 'password'), with(':', part(parts, 'service'), '')
    if host ~= '' then
        if login ~= '' then
            text = text .. login .. (shows_password and with(':', password, '') or '') .. '@'
        end
        text = text .. host .. service
    end
    return text .. part(parts, 'path') .. with('?', part(parts, 'query'), '') .. with('#', part(parts, 'fragment'), '')
end
