-- Values to reply text, in the session's output mode: 'yaml', 'line' or 'block' (the two of Lua output).
-- Needs: wire/packed
local internal, MOST = ...
local raw = internal.raw
local NULL, yaml, packed = internal.NULL, internal.yaml, internal.packed
local number_text, string_text, known_text = yaml.number_text, yaml.string_text, yaml.known_text
local select, type = raw.select, raw.type

local output = {}
internal.output = output

-- The first byte of what leaves Lua: '-' and 'L' open final text, the others a tagged string (values/packed.py).
local YAML_LIST, YAML_ONE, LUA_LINE, LUA_BLOCK, LUA_LINE_ONE, LUA_BLOCK_ONE = '\1', '\2', '\3', '\4', '\5', '\6'

-- A document longer than this is looked at whether it is too long.
local LOOKED_AT = 2^12

-- A document, unless it is too long: then it is written anew, and cut.
local function checked(document)
    if document and #document > LOOKED_AT and #document > MOST[0] then
        return nil
    end
    return document
end

-- What ends a push in Lua output, whatever console.eos() says.
local PUSH_END = ';'

-- In Lua output what ends the document comes first, as a packed string.
local function lua_output(first, eos, values, count)
    return packed.reply(first .. 's' .. #eos .. ':' .. eos, values, count, false, MOST[0])
end

-- The reply to a statement that gave these values: a string, or a list of strings that follow one another. `style` is a session, or what has an `output` and an `eos` as it has.
function output.reply(style, ...)
    local count = select('#', ...)
    local mode = style.output
    if mode == 'yaml' then
        if count == 0 then
            return '---\n...\n'
        end
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
                return checked(yaml.table(value)) or packed.reply(YAML_LIST, {value}, 1, true, MOST[0])
            end
        end
        local values = {...}
        return checked(yaml.list(values, count)) or packed.reply(YAML_LIST, values, count, true, MOST[0])
    end
    return lua_output(mode == 'line' and LUA_LINE or LUA_BLOCK, style.eos, {...}, count)
end

-- The reply to a statement that ended in an error.
function output.error_reply(style, message)
    if message == nil then
        message = NULL
    end
    local mode = style.output
    if mode == 'yaml' then
        if type(message) == 'string' then
            local text = known_text(message) or string_text(message, 9, 4)
            if text and text ~= '' then
                return '---\n- error: ' .. text .. '\n...\n'
            end
        end
        local values = {{error = message}}
        return yaml.list(values, 1) or packed.reply(YAML_LIST, values, 1, true, MOST[0])
    end
    return lua_output(mode == 'line' and LUA_LINE or LUA_BLOCK, style.eos, {{error = message}}, 1)
end

-- A reply in one string, where it came in several.
local function text(reply)
    return type(reply) == 'table' and raw.concat(reply) or reply
end
output.text = text

-- The document of a push.
function output.push(style, value)
    local mode = style.output
    if mode == 'yaml' then
        return checked(yaml.value(value)) or text(packed.reply(YAML_ONE, {value}, 1, true, MOST[0]))
    end
    return text(lua_output(mode == 'line' and LUA_LINE_ONE or LUA_BLOCK_ONE, PUSH_END, {value}, 1))
end
