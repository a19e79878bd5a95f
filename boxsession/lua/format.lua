-- Values to reply text, in the session's output mode: 'yaml', 'line' or 'block' (the two of Lua output).
local internal = ...
local raw = internal.raw
local NULL, yaml, tagged = internal.NULL, internal.yaml, internal.tagged
local number_text, string_text, known_text = yaml.number_text, yaml.string_text, yaml.known_text
local select, type = raw.select, raw.type

local output = {}
internal.output = output

-- The first byte of what leaves Lua: '-' and 'L' open final text, the others a tagged string (output/tagged.py).
local YAML_LIST, YAML_ONE, LUA_LINE, LUA_BLOCK, LUA_LINE_ONE, LUA_BLOCK_ONE = '\1', '\2', '\3', '\4', '\5', '\6'

local EMPTY = {yaml = '---\n...\n', line = LUA_LINE, block = LUA_BLOCK}

-- The reply to a statement that gave these values, in the output `mode` of the session.
function output.reply(mode, ...)
    local count = select('#', ...)
    if count == 0 then
        return EMPTY[mode]
    end
    if mode == 'yaml' then
        if count == 1 then
            local value = ...
            local kind = type(value)
            if kind == 'number' then
                return '---\n- ' .. number_text(value) .. '\n...\n'
            end
            if kind == 'string' then
                local text = known_text(value) or string_text(value, 2, 2)
                if text then
                    return (text == '' and '---\n-' or '---\n- ') .. text .. '\n...\n'
                end
            elseif kind == 'table' then
                return yaml.table(value) or tagged.values(YAML_LIST, {value}, 1, true)
            end
        end
        local values = {...}
        return yaml.list(values, count) or tagged.values(YAML_LIST, values, count, true)
    end
    return tagged.values(mode == 'line' and LUA_LINE or LUA_BLOCK, {...}, count, false)
end

-- The reply to a statement that ended in an error.
function output.error_reply(mode, message)
    if message == nil then
        message = NULL
    end
    if mode == 'yaml' then
        if type(message) == 'string' then
            local text = known_text(message) or string_text(message, 9, 4)
            if text and text ~= '' then
                return '---\n- error: ' .. text .. '\n...\n'
            end
        end
        local values = {{error = message}}
        return yaml.list(values, 1) or tagged.values(YAML_LIST, values, 1, true)
    end
    return tagged.values(mode == 'line' and LUA_LINE or LUA_BLOCK, {{error = message}}, 1, false)
end

-- The document of a push.
function output.push(mode, value)
    if mode == 'yaml' then
        return yaml.value(value) or tagged.values(YAML_ONE, {value}, 1, true)
    end
    return tagged.values(mode == 'line' and LUA_LINE_ONE or LUA_BLOCK_ONE, {value}, 1, false)
end

-- A table on one line, for the log.
function output.flat(value)
    return tagged.values(LUA_LINE_ONE, {value}, 1, false)
end
