-- Watches functions of the program: box.inspect.watch and its like, and their commands.
-- Needs: library/inspect
local internal = ...
local raw, access, inspection = internal.raw, internal.access, internal.inspection
local error, next, tonumber, type = raw.error, raw.next, raw.tonumber, raw.type

local begin_line, begin_options = internal.service('watch_line'), internal.service('watch_options')
local next_rows, close = internal.service('watch_next'), internal.service('watch_close')
local watches, unwatch = internal.service('watches'), internal.service('unwatch')

local function read(kind, opened)
    return inspection.follow(kind, 'watch', opened, next_rows, close)
end

local function add(kind)
    local usage = 'Usage: box.inspect.' .. kind .. '("module:function", {["if"] = "expression", seconds = number, ...})'
    inspection.offer(kind, 'watch', function(target, options)
        if type(target) ~= 'string' or options ~= nil and type(options) ~= 'table' then
            return error(usage, 0)
        end
        local copy = {}
        for name, value in next, options or {} do
            if type(name) ~= 'string' or type(value) ~= 'string' and type(value) ~= 'number' then
                return error(usage, 0)
            end
            copy[name] = value
        end
        return read(kind, begin_options(kind, target, copy))
    end)
    inspection.commands[kind] = function(_, _, _, line)
        return read(kind, begin_line(kind, line or ''))
    end
end

add('watch')
add('trace')
add('stack')
add('count')

local function is_full()
    return access.rights(access.effective().uid).level == access.FULL
end

local function unwatch_some(which, usage)
    local number = which ~= 'all' and tonumber(which) or nil
    if not number and which ~= 'all' then
        return error('Usage: ' .. usage, 0)
    end
    return unwatch(number, is_full())
end

inspection.offer('watches', 'watch', function()
    return watches()
end)

function inspection.commands.watches()
    return watches()
end

inspection.offer('unwatch', 'watch', function(which)
    return unwatch_some(which, 'box.inspect.unwatch(id or "all")')
end)

function inspection.commands.unwatch(_, which)
    return unwatch_some(which, '\\unwatch ID|all')
end
