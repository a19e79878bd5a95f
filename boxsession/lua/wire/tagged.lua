-- Values as one tagged string, for the formatters in Python (values/packed.py has its grammar).
--
-- This is where __serialize is obeyed and where tables that are met again become aliases, as Tarantool's serializer does.
-- Needs: wire/yaml
local internal = ...
local raw = internal.raw
local NULL = internal.NULL
local number_text, is_numeric, list_length = internal.yaml.number_text, internal.yaml.is_numeric, internal.yaml.list_length
local LONG = internal.yaml.LONG
local concat, error, ipairs, next, rawget = raw.concat, raw.error, raw.ipairs, raw.next, raw.rawget
local tostring, type = raw.tostring, raw.type
local getmetatable = raw.debug_getmetatable     -- whatever __metatable says

local tagged = {}
internal.tagged = tagged

-- Beyond SPARSE_RATIO places for each item, a list is too sparse to be one.
local SPARSE_RATIO = 2

-- Marks the tables that are reached more than once, by raw content as Tarantool does: what __serialize makes is not
-- looked into.
local function find_references(value, references)
    if type(value) ~= 'table' then
        return
    end
    local count = references[value]
    if count ~= nil then
        references[value] = true
        return
    end
    references[value] = false
    for key, item in next, value do
        find_references(item, references)
        find_references(key, references)
    end
end

local tag_value

-- What __serialize says about a table: the value to show instead, the kind to force, and whether in flow style.
local function resolve(value)
    for _ = 1, 100 do
        if type(value) ~= 'table' then
            return value
        end
        local meta = getmetatable(value)
        local serialize
        if type(meta) == 'table' then
            serialize = rawget(meta, '__serialize')
        end
        if serialize == nil then
            return value
        end
        if type(serialize) == 'function' then
            local shown = serialize(value)
            if shown == value then
                return value
            end
            value = shown
            if value == nil then
                return NULL
            end
        elseif serialize == 'map' or serialize == 'mapping' then
            return value, 'map', serialize == 'map'
        elseif serialize == 'seq' or serialize == 'sequence' or serialize == 'array' then
            return value, 'list', serialize == 'seq'
        else
            return error('invalid __serialize value', 0)
        end
    end
    return error('invalid __serialize value: it never ends', 0)
end

tagged.resolve = resolve

-- What is written is put together now and then: the pieces of a large value would take many times its room. The result is
-- a list of strings of about PIECE_BYTES or more, since joining them at the end would keep the others waiting; for the same
-- reason a longer text is one of them as it is.
local PIECES, PIECE_BYTES = 4096, 2^20
local function put_together(out)
    local joined = out.joined or {}
    out.joined = joined
    joined[#joined + 1] = concat(out)
    for index = #out, 1, -1 do
        out[index] = nil
    end
    out.put_at = out.left - PIECE_BYTES
end

local function text_of(out)
    if not out.joined then
        return concat(out)
    end
    put_together(out)
    return concat(out.joined)
end

-- A string, or a list of strings that follow one another.
local function pieces_of(out)
    if not out.joined then
        return concat(out)
    end
    put_together(out)
    local pieces, between, size = {}, {}, 0
    for _, piece in ipairs(out.joined) do
        if size > 0 and (#piece > PIECE_BYTES or size > PIECE_BYTES) then
            pieces[#pieces + 1] = concat(between)
            between, size = {}, 0
        end
        if #piece > PIECE_BYTES then
            pieces[#pieces + 1] = piece
        else
            between[#between + 1] = piece
            size = size + #piece
        end
    end
    if size > 0 then
        pieces[#pieces + 1] = concat(between)
    end
    return pieces
end

local function tag_text(out, mark, text)
    out.left = out.left - #text - 4
    out[#out + 1] = mark
    out[#out + 1] = #text
    out[#out + 1] = ':'
    if #text > PIECE_BYTES then
        put_together(out)
        out.joined[#out.joined + 1] = text
        return
    end
    out[#out + 1] = text
    if out.left < out.put_at then
        put_together(out)
    end
end

-- The length of a table that __serialize says is a list, whatever its keys: up to the highest index, if that is not far
-- beyond what there is.
local FORCED_SPARSE_MAX = 1000
local function highest_index(value)
    local size, max = 0, 0
    for key in next, value do
        size = size + 1
        if type(key) == 'number' and key > max and key % 1 == 0 then
            max = key
        end
    end
    return max <= FORCED_SPARSE_MAX + size * SPARSE_RATIO and max or #value
end

tagged.highest_index = highest_index

-- The length of a table by a serializer's settings: nil for a map. `forced`: __serialize says that it is a list.
local HUGE_LIST = 2^20
local function list_length_by(settings, value, forced)
    local ratio = settings.encode_sparse_ratio
    local safe = settings.encode_sparse_safe
    if ratio == 0 then
        safe = HUGE_LIST
    end
    -- Below SPARSE_SAFE the writer's own rule never finds a list too sparse; a smaller `safe` is not worth another count.
    local length, too_sparse = list_length(value, safe, ratio)
    if too_sparse and not settings.encode_sparse_convert then
        return error('excessively sparse array', 0)
    end
    if forced and length == nil then
        return highest_index(value)
    end
    return length
end
tagged.list_length = list_length_by

local function tag_table(out, value, kind, flow, references)
    local anchor = references[value]
    if anchor then
        if anchor == true then
            -- Referenced more than once and met for the first time: it gets the next number for its name.
            anchor = references.named
            references.named = anchor + 1
            references[value] = anchor + 1
            tag_text(out, '&', anchor .. '')
        else
            tag_text(out, '*', (anchor - 1) .. '')
            return
        end
    end
    local length
    if kind == 'map' then
        length = nil
    elseif references.settings then
        length = list_length_by(references.settings, value, kind == 'list')
    else
        length = list_length(value, references.sparse_max)
        if kind == 'list' and length == nil then
            length = highest_index(value)
        end
    end
    if length then
        out[#out + 1] = flow and 'l' or 'L'
        for index = 1, length do
            if out.left < 0 then
                break
            end
            tag_value(out, rawget(value, index), references)
            if #out > PIECES then
                put_together(out)
            end
        end
        out[#out + 1] = ']'
    else
        out[#out + 1] = flow and 'm' or 'M'
        for key, item in next, value do
            if out.left < 0 then
                break
            end
            tag_value(out, key, references)
            tag_value(out, item, references)
            if #out > PIECES then
                put_together(out)
            end
        end
        out[#out + 1] = '}'
    end
end

local function number_by(settings, value)
    if not settings.encode_invalid_numbers and (value ~= value or value == raw.huge or value == -raw.huge) then
        return error('number must not be NaN or Inf', 0)
    end
    return internal.yaml.number_with_digits(value, settings.encode_number_precision)
end

-- Functions, coroutines and objects. An object's __serialize is asked, and what it raises is shown in its place.
local function tag_object(out, value, references)
    local digits = type(value) == 'userdata' and internal.extension.number(value)
    if digits then
        return tag_text(out, 'n', digits)
    end
    local meta = type(value) == 'userdata' and getmetatable(value)
    local serialize = meta and rawget(meta, '__serialize')
    if serialize then
        local _, shown = raw.pcall(serialize, value)
        return tag_value(out, shown, references)
    end
    local settings = references.settings
    if settings and settings.encode_invalid_as_nil and not settings.encode_use_tostring then
        out[#out + 1] = 'Z'
        return
    end
    if references.strict and not (settings and settings.encode_use_tostring) then
        return error("unsupported Lua type '" .. type(value) .. "'", 0)
    end
    tag_text(out, 's', tostring(value))
end

function tag_value(out, value, references)
    local kind, flow
    local settings = references.settings
    if type(value) == 'table' and not (settings and not settings.encode_load_metatables) then
        value, kind, flow = resolve(value)
    end
    local name = type(value)
    out.left = out.left - 2
    if name == 'table' then
        tag_table(out, value, kind, flow, references)
    elseif name == 'string' then
        -- A long one is looked at in pieces, in Python.
        tag_text(out, #value <= LONG and is_numeric(value) and 'q' or 's', value)
    elseif name == 'number' then
        tag_text(out, 'n', settings and number_by(settings, value) or number_text(value))
    elseif name == 'boolean' then
        out[#out + 1] = value and 't' or 'f'
    elseif value == nil then
        out[#out + 1] = 'N'
    elseif value == NULL then
        out[#out + 1] = 'Z'
    else
        tag_object(out, value, references)
    end
end

-- A value for which others need not stand back: what it raises is shown in its place, as Lua output does.
local LUA_SPARSE_MAX = 100000
local FAILED = 'console: exception while formatting output: "%s"'
local function tag_one(out, value, references)
    find_references(value, references)
    tag_value(out, value, references)
end
local function tag_alone(out, value)
    local own = {left = out.left, put_at = out.left - PIECE_BYTES}
    local ok, message = internal.task.protected(tag_one, own, value, {named = 0, sparse_max = LUA_SPARSE_MAX})
    if ok then
        out.left = own.left
        if own.joined then
            put_together(own)
            put_together(out)
            for _, piece in ipairs(own.joined) do
                out.joined[#out.joined + 1] = piece
            end
        else
            out[#out + 1] = text_of(own)
        end
    else
        message = (type(message) == 'string' or type(message) == 'number') and message or ''
        tag_one(out, {error = raw.format(FAILED, message)}, {named = 0})
    end
end

-- `first` says how the tagged string is meant; then the values, one after the other. Gives what pieces_of() does.
-- What is over `most` bytes is cut behind a value, and marked.
function tagged.values(first, values, count, together, most)
    local out = {first, left = most, put_at = most - PIECE_BYTES}
    local references = {named = 0}
    if together then
        for index = 1, count do
            find_references(values[index], references)
        end
    end
    for index = 1, count do
        if together then
            tag_value(out, values[index], references)
        else
            tag_alone(out, values[index])
        end
        if out.left < 0 then
            out[#out + 1] = 'X'
            break
        end
    end
    return pieces_of(out)
end

-- A single value as a document, where what has no form of its own is an error, but by a serializer's settings.
function tagged.strict(value, settings)
    local out = {'\2', left = raw.huge, put_at = 0}
    local references = {named = 0, strict = true, settings = settings}
    find_references(value, references)
    tag_value(out, value, references)
    return text_of(out)
end

-- resolve(), also for objects.
function tagged.resolve_object(value)
    if type(value) == 'userdata' then
        local meta = getmetatable(value)
        local serialize = meta and rawget(meta, '__serialize')
        if serialize then
            local _, shown = raw.pcall(serialize, value)
            value = shown
        end
    end
    return resolve(value)
end
