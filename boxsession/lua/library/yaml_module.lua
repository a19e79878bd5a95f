-- The module yaml. Behaviour and messages: Tarantool 2.6. Plain values are written by yaml.lua, others by libyaml's
-- emitter.
-- Needs: kernel/task, library/modules, wire/serializer, wire/packed
local internal, FORMAT, DECODE = ...
local raw = internal.raw
local packed, writer = internal.packed, internal.yaml
local byte, error, find, gmatch, select, sub, type, unpack = raw.byte, raw.error, raw.find, raw.gmatch, raw.select, raw.sub,
    raw.type, raw.unpack
local encodes_by_default, text = internal.encodes_by_default, internal.task.text

-- Longest text for decode(), since the parser cannot be interrupted.
local DECODE_MAX = 2^20

local ENCODE_USAGE = 'Usage: encode(object, {tag_prefix = <string>, tag_handle = <string>})'
local DECODE_USAGE = 'Usage: yaml.decode(document, [{tag_only = boolean}])'

local function text_of(value)
    return type(value) == 'number' and value .. '' or type(value) == 'string' and value or nil
end

-- The %TAG line for the options, or ''; or nil and an error message.
local function tag_line(options)
    local prefix, handle = options.tag_prefix, options.tag_handle
    if prefix == nil and handle == nil then
        return ''
    end
    prefix, handle = text_of(prefix), text_of(handle)
    if not prefix or not handle or find(prefix .. handle, '[%c ]') then
        return error(ENCODE_USAGE, 0)
    end
    if sub(handle, 1, 1) ~= '!' then
        return nil, "tag handle must start with '!'"
    elseif sub(handle, -1) ~= '!' then
        return nil, "tag handle must end with '!'"
    end
    return '%TAG ' .. handle .. ' ' .. prefix .. '\n'
end

-- The handle and prefix of the tag that the first document declares, or nil.
local function declared_tag(text)
    local handle, prefix
    for line in gmatch(text, '[^\r\n]+') do
        if sub(line, 1, 1) ~= '%' then
            break
        end
        local a, b = raw.match(line, '^%%TAG%s+(%S+)%s+(%S+)')
        if a and handle then
            return nil, 'can not decode multiple tags'
        elseif a then
            handle, prefix = a, b
        end
    end
    if handle then
        return handle, prefix
    end
    return nil
end

internal.serializer('yaml', function(yaml, settings)
    function yaml.encode(...)
        local value, options = ...
        if select('#', ...) == 0 or (options ~= nil and type(options) ~= 'table') then
            return error(ENCODE_USAGE, 0)
        end
        local tag = ''
        if options then
            local problem
            tag, problem = tag_line(options)
            if not tag then
                return nil, problem
            end
        end
        if encodes_by_default(settings) then
            return tag .. (writer.value(value) or text(FORMAT, packed.document(value)))
        end
        return tag .. text(FORMAT, packed.document(value, settings))
    end

    -- The values of all documents in a text; with `tag_only` only the declared tag.
    function yaml.decode(...)
        local document, options = ...
        document = text_of(document)
        if not document or (options ~= nil and type(options) ~= 'table') then
            return error(DECODE_USAGE, 0)
        end
        if #document > DECODE_MAX then
            return error('yaml.decode: the text is too long (' .. #document .. ' bytes, at most ' .. DECODE_MAX .. ')', 0)
        end
        if options and options.tag_only == true then
            return declared_tag(document)
        end
        local answer = text(DECODE, document)
        local save = settings.decode_save_metatables
        local values, count = packed.documents(answer, 2, save and internal.array_mt, save and internal.map_mt,
                                                not settings.decode_invalid_numbers)
        if byte(answer, 1) == 33 then       -- '!'
            return error(values, 0)
        end
        return unpack(values, 1, count)
    end
end)
