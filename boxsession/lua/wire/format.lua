-- Writes replies and pushes in the session's output mode: 'yaml', or 'line' or 'block' for Lua output.
--
-- Invariant: the first byte of what leaves Lua says whether it is final text or a tagged string for Python's formatters.
-- Needs: wire/packed
local internal, MOST = ...
local raw = internal.raw
local NULL, yaml, packed = internal.NULL, internal.yaml, internal.packed
local number_text, string_text, known_text = yaml.number_text, yaml.string_text, yaml.known_text
local select, type = raw.select, raw.type

local output = {}
internal.output = output

-- First bytes of tagged strings, as values/documents.py has them. Final text begins with a printable byte.
local YAML_LIST, YAML_ONE, LUA_LINE, LUA_BLOCK, LUA_LINE_ONE, LUA_BLOCK_ONE = '\1', '\2', '\3', '\4', '\5', '\6'

-- Only documents longer than this are checked against the output limit, since MOST is a port.
local LOOKED_AT = 2^12

-- The document, or nil if it is over the output limit: it is then written again by packed.reply(), which truncates.
local function checked(document)
    if document and #document > LOOKED_AT and #document > MOST[0] then
        return nil
    end
    return document
end

-- The end of a push in Lua output, whatever console.eos() has set.
local PUSH_END = ';'

-- A tagged string for Lua output. The end mark comes before the values, as a packed string.
local function lua_output(first, eos, values, count)
    return packed.reply(first .. 's' .. #eos .. ':' .. eos, values, count, false, MOST[0])
end

-- The reply to a statement with these values: a string, or a list of strings that are to be joined. `style`: a session, or
-- another table with `output` and `eos`.
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

-- The reply to a statement that raised `message`.
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

-- The beginning of the tagged string of a reply: packed values follow.
function output.style(style)
    local mode = style.output
    if mode == 'yaml' then
        return YAML_LIST
    end
    return (mode == 'line' and LUA_LINE or LUA_BLOCK) .. 's' .. #style.eos .. ':' .. style.eos
end

-- Joins a reply that is a list of strings.
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
