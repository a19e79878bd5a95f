-- Profiles the thread of the event loop: box.inspect.profile() and \profile.
-- Needs: library/inspect
local internal = ...
local raw, inspection = internal.raw, internal.inspection
local error, match, tonumber, type = raw.error, raw.match, raw.tonumber, raw.type

local start, wait = internal.service('profile_start'), internal.service('profile_wait')
local push = _G.box.session.push

local USAGE = 'Usage: \\profile SECONDS [HZ] [file=PATH]'
local FUNCTION_USAGE = 'Usage: box.inspect.profile(seconds, {hz = 100, file = "/path"})'

-- Pushes the progress each second (not in sessions that take no pushes), and returns the result.
local function run(seconds, rate, path)
    local number = start(seconds, rate, path or '')
    while true do
        local row = wait(number)
        if row.result then
            return row.result
        end
        push({profile = row})
    end
end

inspection.offer('profile', 'execute', function(seconds, options)
    if options == nil then
        options = {}
    end
    if type(seconds) ~= 'number' or type(options) ~= 'table' then
        return error(FUNCTION_USAGE, 0)
    end
    local rate, path = options.hz, options.file
    if rate ~= nil and type(rate) ~= 'number' or path ~= nil and type(path) ~= 'string' then
        return error(FUNCTION_USAGE, 0)
    end
    return run(seconds, rate, path)
end)

function inspection.commands.profile(_, _, _, rest)
    local words, path = match(rest or '', '^(.-)%s*file=(.+)$')
    local seconds, rate = match(words or rest or '', '^(%S+)%s*(%S*)%s*$')
    if not tonumber(seconds) or rate ~= '' and not tonumber(rate) then
        return error(USAGE, 0)
    end
    return run(tonumber(seconds), tonumber(rate), path)
end
