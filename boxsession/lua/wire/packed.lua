-- Lua's writer and reader of packed strings. values/packed.py documents the grammar and is Python's side.
--
-- Values for a formatter are written with aliases for tables that occur more than once, as Tarantool's serializer does.
-- Values for Python code are written without aliases; a value that has no packed form is refused.
--
-- Longer than usual: the writer and the reader of one grammar stand side by side, so that they can be compared.
-- Needs: wire/order, wire/shape, wire/yaml
local internal = ...
local raw = internal.raw
local NULL = internal.NULL
local number_text, is_numeric, list_length = internal.yaml.number_text, internal.yaml.is_numeric, internal.yaml.list_length
local LONG = internal.yaml.LONG
local shape = internal.shape
local resolve, highest_index, list_length_by, items = shape.resolve, shape.highest_index, shape.list_length,
    internal.order.items
local byte, char, concat, error, find, format, ipairs, next, rawget, select = raw.byte, raw.char, raw.concat, raw.error,
    raw.find, raw.format, raw.ipairs, raw.next, raw.rawget, raw.select
local setmetatable, sub, tonumber, tostring, type = raw.setmetatable, raw.sub, raw.tonumber, raw.tostring, raw.type
local getmetatable = raw.debug_getmetatable     -- whatever __metatable says

local packed = {}
internal.packed = packed

-- Writer --------------------------------------------------------------------------------------------------------------
--
-- `out` is a list of pieces, with these fields:
--   left: number of bytes that may still be written.
--   seen, named: tables that may need aliases, and how many have a name so far.
--   settings: a serializer's settings.
--   sparse_max: a list with up to this highest index is a list, however sparse.
--   strict: a value without a form is an error.
--   depth: number of open tables; set only for values that go to Python code. `keys`: the argument's number, and the key
--     in each of these tables.

-- Pieces are joined from time to time, since the pieces of a large value need many times its size. `joined` is a list of
-- strings of about PIECE_BYTES or more: joining them all at the end would block the event loop. A longer text is put into
-- it as it is, for the same reason.
local PIECES, PIECE_BYTES, UNLIMITED = 4096, 2^20, 2^52
local function new(first, most)
    return {first, left = most, put_at = most - PIECE_BYTES}
end

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
    return internal.concat(out.joined)
end

-- The result: a string, or a list of strings that are to be joined.
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

-- Marks the tables that are reached more than once. It follows raw content only, as Tarantool does: results of __serialize
-- are not searched.
local function find_references(value, seen)
    if type(value) ~= 'table' then
        return
    end
    local met = seen[value]
    if met ~= nil then
        seen[value] = true
        return
    end
    seen[value] = false
    for key, item in next, value do
        find_references(item, seen)
        find_references(key, seen)
    end
end

local write

local function write_text(out, mark, text)
    local count = #out
    out.left = out.left - #text - 6
    out[count + 1], out[count + 2], out[count + 3] = mark, #text, ':'
    if #text > PIECE_BYTES then
        put_together(out)
        out.joined[#out.joined + 1] = text
        return
    end
    out[count + 4] = text
    if out.left < out.put_at then
        put_together(out)
    end
end

local function length_of(out, value, kind)
    if kind == 'map' then
        return nil
    elseif out.settings then
        return list_length_by(out.settings, value, kind == 'list')
    end
    local length = list_length(value, out.sparse_max)
    if kind == 'list' and length == nil then
        return highest_index(value)
    end
    return length
end

-- Deepest nesting of values for Python code.
local DEEPEST = 100

-- Raises an error about a value for Python code, with its place: `argument 2, .orders[3].at`. `problem`: a message instead of
-- that `what` cannot be passed.
local KEYS_SHOWN = 12
local function cannot_pass(out, what, problem)
    local keys, path = out.keys, ''
    for index = 2, out.depth + 1 do
        local key = keys[index]
        if index > KEYS_SHOWN then
            path = path .. '...'
            break
        elseif type(key) == 'string' and find(key, '^[%a_][%w_]*$') then
            path = path .. '.' .. key
        else
            path = path .. (type(key) == 'string' and '["' .. key .. '"]' or '[' .. tostring(key) .. ']')
        end
    end
    return error((problem or 'cannot pass ' .. what .. ' to Python') .. ': argument ' .. keys[1]
                 .. (path ~= '' and ', ' .. path or '') .. ': pass plain data', 0)
end

local function write_table(out, value, kind, flow)
    local seen, depth = out.seen, out.depth
    local anchor = seen and seen[value]
    if anchor then
        if anchor == true then
            -- Referenced more than once, and written now for the first time: the next number is its name.
            anchor = out.named
            out.named = anchor + 1
            seen[value] = anchor + 1
            write_text(out, '&', anchor .. '')
        else
            write_text(out, '*', (anchor - 1) .. '')
            return
        end
    else
        out.left = out.left - 2
    end
    if depth then
        if depth >= DEEPEST and next(value) ~= nil then
            return cannot_pass(out, 'a table that contains itself (or is deeper than ' .. DEEPEST .. ')')
        end
        depth = depth + 1
        out.depth = depth
    end
    local keys = out.keys
    local length = length_of(out, value, kind)
    if length then
        out[#out + 1] = flow and 'l' or 'L'
        for index = 1, length do
            if out.left < 0 then
                break
            end
            if depth then
                keys[depth + 1] = index
            end
            write(out, rawget(value, index))
            if #out > PIECES then
                put_together(out)
            end
        end
    else
        out[#out + 1] = flow and 'm' or 'M'
        for key, item in items(value) do
            if out.left < 0 then
                break
            end
            if depth then
                if type(key) == 'table' and getmetatable(key) == nil then
                    out.depth = depth - 1
                    return cannot_pass(out, nil, 'a table cannot be a key in Python')
                end
                keys[depth + 1] = key
            end
            write(out, key)
            write(out, item)
            if #out > PIECES then
                put_together(out)
            end
        end
    end
    out[#out + 1] = length and ']' or '}'
    out.depth = depth and depth - 1
end

local function number_by(settings, value)
    if not settings.encode_invalid_numbers and (value ~= value or value == raw.huge or value == -raw.huge) then
        return error('number must not be NaN or Inf', 0)
    end
    return internal.yaml.number_with_digits(value, settings.encode_number_precision)
end

-- An object for Python code.
local UUID, DECIMAL, DATETIME = 2, 1, 4
local function write_for_python(out, value)
    local code, data
    if type(value) == 'userdata' then
        if internal.exposed.is_object(value) then
            return write(out, internal.exposed.content(value))
        end
        code, data = internal.extension.packed(value)
    end
    if code == UUID or code == DECIMAL or code == DATETIME then
        return write_text(out, 'E', char(code) .. data)
    end
    local digits = type(value) == 'userdata' and internal.extension.digits(value)
    if digits then
        return write_text(out, 'I', digits)
    end
    return cannot_pass(out, 'a ' .. type(value))
end

-- Functions, coroutines and objects. An object's __serialize is called; if it raises, the error is shown instead.
local function write_object(out, value)
    if out.depth then
        return write_for_python(out, value)
    end
    local digits = type(value) == 'userdata' and internal.extension.number(value)
    if digits then
        return write_text(out, 'n', digits)
    end
    local meta = type(value) == 'userdata' and getmetatable(value)
    local serialize = meta and rawget(meta, '__serialize')
    if serialize then
        local _, shown = internal.task.protected(serialize, value)
        out.left = out.left - 2
        return write(out, shown)
    end
    local settings = out.settings
    if settings and settings.encode_invalid_as_nil and not settings.encode_use_tostring then
        return write(out, NULL)
    end
    if out.strict and not (settings and settings.encode_use_tostring) then
        return error("unsupported Lua type '" .. type(value) .. "'", 0)
    end
    write_text(out, 's', tostring(value))
end

function write(out, value)
    local name, settings, kind, flow = type(value), out.settings, nil, nil
    if name == 'table' and not (settings and not settings.encode_load_metatables) then
        value, kind, flow = resolve(value)
        name = type(value)
    end
    if name == 'table' then
        return write_table(out, value, kind, flow)
    elseif name == 'string' then
        -- Python checks a long text in pieces.
        return write_text(out, not out.depth and #value <= LONG and is_numeric(value) and 'q' or 's', value)
    elseif name == 'number' then
        return write_text(out, 'n', out.depth and format('%.17g', value) or settings and number_by(settings, value)
                                    or number_text(value))
    end
    local mark = name == 'boolean' and (value and 't' or 'f') or value == nil and 'N' or value == NULL and 'Z'
    if not mark then
        return write_object(out, value)
    end
    out.left = out.left - 2
    out[#out + 1] = mark
end

-- For Lua output: each value has its own aliases, and an error is shown in the value's place.
local LUA_SPARSE_MAX = 100000
local FAILED = 'console: exception while formatting output: "%s"'
local function write_one(out, value)
    out.seen, out.named = {}, 0
    find_references(value, out.seen)
    write(out, value)
end
local function write_alone(out, value)
    local own = new(nil, out.left)
    own.sparse_max = LUA_SPARSE_MAX
    local ok, message = internal.task.protected(write_one, own, value)
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
        write_one(out, {error = raw.format(FAILED, message)})
    end
end

-- The tagged string of a reply or push: `first` (its tag), then the values. `together`: the values are one document with
-- common aliases. A string over `most` bytes is truncated after a value, and marked. Returns as pieces_of() does.
function packed.reply(first, values, count, together, most)
    local out = new(first, most)
    if together then
        out.seen, out.named = {}, 0
        for index = 1, count do
            find_references(values[index], out.seen)
        end
    end
    for index = 1, count do
        if together then
            write(out, values[index])
        else
            write_alone(out, values[index])
        end
        if out.left < 0 then
            out[#out + 1] = 'X'
            break
        end
    end
    return pieces_of(out)
end

-- The tagged string of one value as a document. A value without a form is an error, unless the serializer's settings allow
-- it.
function packed.document(value, settings)
    local out = new('\2', UNLIMITED)
    out.strict, out.settings, out.seen, out.named = true, settings, {}, 0
    find_references(value, out.seen)
    write(out, value)
    return text_of(out)
end

-- The packed string for Python code: `first`, then the list of the other arguments.
function packed.list(first, ...)
    local out = {first, 'L', left = UNLIMITED, put_at = UNLIMITED - PIECE_BYTES, depth = 0, keys = {}}
    for index = 1, select('#', ...) do
        out.keys[1] = index
        write(out, (select(index, ...)))
    end
    out[#out + 1] = ']'
    return text_of(out)
end

-- Reader --------------------------------------------------------------------------------------------------------------
--
-- Readers by mark. A reader returns the value whose mark is before `at`, and the position after the value. `context` can
-- have the named tables, the metatables for lists, for maps, and for maps without a string as a key, and whether nan and inf
-- are refused. `name`: the value's name, if it has one.

local readers = {}

local function read_text(text, at)
    local colon = find(text, ':', at, true)
    local stop = colon + tonumber(sub(text, at, colon - 1))
    return sub(text, colon + 1, stop), stop + 1
end
readers.s, readers.q = read_text, read_text

-- A Lua number holds all integers up to this.
local EXACT_MAX = 2^53

function readers.n(text, at, context)
    local digits
    digits, at = read_text(text, at)
    local number = tonumber(digits)
    if number < EXACT_MAX and number > -EXACT_MAX then
        return number, at
    elseif context and context.finite and (number ~= number or number == raw.huge or number == -raw.huge) then
        return error('number must not be NaN or Inf', 0)
    end
    return internal.extension.exact(digits, number), at
end

function readers.I(text, at)
    local digits
    digits, at = read_text(text, at)
    return internal.extension.exact(digits, tonumber(digits)), at
end

function readers.E(text, at)
    local data
    data, at = read_text(text, at)
    return internal.extension.object(byte(data), sub(data, 2)), at
end

function readers.t(_, at)
    return true, at
end

function readers.f(_, at)
    return false, at
end

function readers.N(_, at)
    return nil, at
end

function readers.Z(_, at)
    return NULL, at
end

function readers.L(text, at, context, name)
    local list, count = {}, 0
    if name then
        context.anchors[name] = list
    end
    local mark = sub(text, at, at)
    while mark ~= ']' do
        count = count + 1
        list[count], at = readers[mark](text, at + 1, context)
        mark = sub(text, at, at)
    end
    local meta = context and context.list_meta
    return meta and setmetatable(list, meta) or list, at + 1
end

function readers.M(text, at, context, name)
    local map, has_names = {}, false
    local order = context and context.in_order and {}
    if name then
        context.anchors[name] = map
    end
    local mark = sub(text, at, at)
    while mark ~= '}' do
        local key, value
        key, at = readers[mark](text, at + 1, context)
        value, at = readers[sub(text, at, at)](text, at + 1, context)
        if key ~= key and context then
            return error('table index is NaN', 0)
        elseif key ~= nil and key == key then
            map[key] = value
            if not has_names then
                has_names = type(key) == 'string'
            end
            if order and type(key) == 'string' then
                order[#order + 1] = key
            end
        end
        mark = sub(text, at, at)
    end
    local meta = context and (not has_names and context.nameless_meta or context.map_meta)
    if order and #order > 1 then
        meta = internal.order.in_order(order)
    end
    return meta and setmetatable(map, meta) or map, at + 1
end
readers.l, readers.m = readers.L, readers.M

readers['&'] = function(text, at, context)
    local name, value
    name, at = read_text(text, at)
    value, at = readers[sub(text, at, at)](text, at + 1, context, name)
    context.anchors[name] = value
    return value, at
end

readers['*'] = function(text, at, context)
    local name
    name, at = read_text(text, at)
    return context.anchors[name], at
end

-- The value that begins at `at`.
function packed.value(text, at)
    at = at or 1
    return (readers[sub(text, at, at)](text, at + 1))
end

-- The same for the answer of a service: its maps are shown in the order that they have in Python.
local IN_ORDER = {in_order = true}
function packed.value_of_service(text, at)
    return (readers[sub(text, at, at)](text, at + 1, IN_ORDER))
end

-- The same for a value of the program: a dict that could be taken for a list, such as {1: 'a', 5: 'b'}, stays a map.
local DICT = {__serialize = 'mapping'}
packed.dict_meta = DICT
local OF_PROGRAM = {nameless_meta = DICT}
function packed.value_of_program(text, at)
    return (readers[sub(text, at, at)](text, at + 1, OF_PROGRAM))
end

-- Reads the answer to yaml.decode() from `at` on: a list of the values of all documents, and their number; or a string. A
-- metatable can be false, for none.
function packed.documents(text, at, list_meta, map_meta, finite)
    local context = {anchors = {}, list_meta = list_meta or nil, map_meta = map_meta or nil, finite = finite}
    local values = readers[sub(text, at, at)](text, at + 1, context)
    return values, type(values) == 'table' and #values or 1
end
