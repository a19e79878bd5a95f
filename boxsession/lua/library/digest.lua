-- The module digest: hashes, base64 and random bytes. Behaviour and messages: Tarantool 2.6. Its cipher (aes256cbc) is missing.
-- Needs: kernel/stdlib, kernel/task, library/extension, library/modules
local internal, HASH, PBKDF2, CRC32, MURMUR, GUAVA, TO_BASE64, OF_BASE64, RANDOM = ...
local raw, task = internal.raw, internal.task
local error, floor, format, gsub, setmetatable, sub, type = raw.error, raw.floor, raw.format, raw.gsub, raw.setmetatable,
    raw.sub, raw.type
local join, to_hex = table.concat, string.hex         -- the users' ones, which can be interrupted

local digest = {}
internal.modules.digest = digest

-- Bytes that one call of Python gets: below a millisecond. HASHED: by hash functions that are written in C.
local PIECE, HASHED = 2^13, 2^16

local function check(is_right, usage)
    if not is_right then
        return error(usage, 0)
    end
end

-- Calls func(piece) for pieces of a text of `size` bytes.
local function in_pieces(text, size, func)
    if #text <= size then
        return func(text)
    end
    for from = 1, #text, size do
        func(sub(text, from, from + size - 1))
        internal.look()
    end
end

-- A whole number that fits in an int or uint64_t of C, as text.
local function whole(place, value, kind)
    local digits = type(value) == 'userdata' and internal.extension.digits(value)
    if digits then
        return digits
    end
    check(type(value) == 'number' and value == value and value < 2^64 and value > -2^63,
          format("bad argument #%d to '?' (cannot convert '%s' to '%s')", place, type(value), kind))
    return format('%.0f', value < 0 and -floor(-value) or floor(value))
end

-- Hashes ---------------------------------------------------------------------------------------------------------------

for _, name in raw.ipairs({'md4', 'md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512'}) do
    local function hash(text)
        check(task.text(HASH, 'n' .. name) == '', "Can't init digest: " .. name .. ' is not supported by this system')
        in_pieces(text, HASHED, function(piece)
            task.text(HASH, 'u' .. piece)
        end)
        return task.text(HASH, 'd')
    end
    digest[name] = function(text)
        check(type(text) == 'string', 'Usage: digest.' .. name .. '(string)')
        return hash(text)
    end
    digest[name .. '_hex'] = function(text)
        check(type(text) == 'string', 'Usage: digest.' .. name .. '_hex(string)')
        return to_hex(hash(text))
    end
end

-- PBKDF2 with HMAC-SHA256. It takes some 2 us a round, under turns.
local ROUNDS, LENGTH, SALT_MAX, KEY_MAX, ROUNDS_MAX = 100000, 128, 2^16, 64, 2^31 - 1
local function pbkdf2(usage, password, salt, rounds, length)
    check(type(password) == 'string' and type(salt) == 'string', usage)
    rounds, length = rounds == nil and ROUNDS or rounds, length == nil and LENGTH or length
    check(type(rounds) == 'number', 'iters must be a number')
    check(type(length) == 'number', 'digest_len must be a number')
    check(length <= LENGTH, 'too big digest size')
    check(#salt <= SALT_MAX, 'digest.pbkdf2: the salt is too long (' .. #salt .. ' bytes, at most ' .. SALT_MAX .. ')')
    if not (rounds >= 1 and rounds <= ROUNDS_MAX and length >= 0) then
        return nil
    elseif #password > KEY_MAX then
        password = digest.sha256(password)      -- as HMAC does
    end
    return task.text(PBKDF2, format('%.0f:%.0f:%d:', floor(rounds), floor(length), #password) .. password .. salt)
end
function digest.pbkdf2(...)
    return pbkdf2('Usage: digest.pbkdf2(pass, salt[,iters[,digest_len]])', ...)
end
function digest.pbkdf2_hex(...)
    return to_hex(pbkdf2('Usage: digest.pbkdf2_hex(pass, salt)', ...))
end

-- Guava's consistent hash: the number of a bucket, from 0 on.
function digest.guava(state, buckets)
    state, buckets = whole(1, state, 'uint64_t'), whole(2, buckets, 'int')
    if raw.tonumber(buckets) >= 2^31 then
        return 0                -- Tarantool takes such a number for a negative one
    end
    return task.block(GUAVA, state .. ':' .. buckets)
end

-- Checksums in steps ---------------------------------------------------------------------------------------------------

local WORD = 2^32

-- A number of 32 bits as text; 0 for nan and the infinities. Users can change the fields of the objects below.
local function word(value)
    local rest = type(value) == 'number' and floor(value % WORD)
    return format('%.0f', rest == rest and rest or 0)
end

local function crc32(value, text)
    in_pieces(text, PIECE, function(piece)
        value = task.block(CRC32, word(value) .. ':' .. piece)
    end)
    return value
end

local crc_methods = {}
local crc_meta = {__index = crc_methods, __metatable = false}
function crc_methods:update(text)
    check(type(text) == 'string', 'Usage crc32:update(string)')
    self.value = crc32(self.value, text)
end
function crc_methods:result()
    return self.value
end
function crc_methods:clear()
    self.value = WORD - 1
end
function crc_methods:copy()
    return setmetatable({value = self.value}, crc_meta)
end

digest.crc32 = setmetatable({crc_begin = WORD - 1, new = function()
    return setmetatable({value = WORD - 1}, crc_meta)
end}, {__call = function(_, text)
    check(type(text) == 'string', 'Usage digest.crc32(string)')
    return crc32(WORD - 1, text)
end})

function digest.crc32_update(value, text)
    check(type(text) == 'string' and type(value) == 'number', 'Usage: digest.crc32_update(string)')
    return crc32(value, text)
end

-- `value` is the hash of whole groups of four bytes, `rest` are the bytes behind them.
local SEED = 13
local murmur_methods = {}
local murmur_meta = {__index = murmur_methods, __metatable = false}
function murmur_methods:update(text)
    check(type(text) == 'string', 'Usage: murhash:update(string)')
    local value, rest = self.value, type(self.rest) == 'string' and sub(self.rest, 1, 3) or ''
    in_pieces(text, PIECE, function(piece)
        piece = rest .. piece
        local whole_groups = #piece - #piece % 4
        rest = sub(piece, whole_groups + 1)
        value = task.block(MURMUR, word(value) .. '::' .. sub(piece, 1, whole_groups))
    end)
    self.value, self.rest, self.total_length = value, rest, (raw.tonumber(self.total_length) or 0) + #text
end
function murmur_methods:result()
    local rest = type(self.rest) == 'string' and sub(self.rest, 1, 3) or ''
    return task.block(MURMUR, word(self.value) .. ':' .. word(self.total_length) .. ':' .. rest)
end
function murmur_methods:clear()
    self.value, self.rest, self.total_length = self.seed, '', 0
end
function murmur_methods:copy()
    return setmetatable({seed = self.seed, value = self.value, rest = self.rest, total_length = self.total_length},
                        murmur_meta)
end

local function new_murmur(options)
    check(options == nil or type(options) == 'table', 'Usage: digest.murmur.new([{seed = number}])')
    local seed = options and options.seed or SEED
    check(type(seed) == 'number', format("cannot convert '%s' to 'int [1]'", type(seed)))
    if not (seed < 2^31 and seed >= -2^31) then
        seed = 2^31             -- as C converts it
    end
    return setmetatable({seed = seed, value = seed, rest = '', total_length = 0}, murmur_meta)
end
digest.murmur = setmetatable({default_seed = SEED, new = new_murmur}, {__call = function(_, text)
    check(type(text) == 'string', 'Usage: digest.murhash(string)')
    local made = new_murmur()
    made:update(text)
    return made:result()
end})

-- Base64 ---------------------------------------------------------------------------------------------------------------

-- Bytes that make one line; some lines are written at once.
local LINE, LINES = 54, 150
local URL_SAFE = {['+'] = '-', ['/'] = '_', ['='] = ''}

local function encode_line(text)
    return task.text(TO_BASE64, text)
end

function digest.base64_encode(text, options)
    check(type(text) == 'string' and (options == nil or type(options) == 'table'),
          'Usage: digest.base64_encode(string[, table])')
    options = options or {}
    local is_url_safe = options.urlsafe
    local wraps = not is_url_safe and not options.nowrap
    local out = {}
    in_pieces(text, LINE * LINES, function(piece)
        local made = encode_line(piece)
        if wraps then
            made = gsub(made, raw.rep('.', LINE / 3 * 4), '%0\n')
        elseif is_url_safe then
            made = gsub(made, '[+/=]', URL_SAFE)
        end
        out[#out + 1] = made
    end)
    local made = join(out)
    if options.nopad and not is_url_safe then
        made = gsub(made, '=', '')
    end
    return made
end

-- Other characters are skipped.
local FROM_URL = {['-'] = '+', ['_'] = '/'}
function digest.base64_decode(text)
    check(type(text) == 'string', 'Usage: digest.base64_decode(string)')
    local out, rest = {}, ''
    local function decode(piece)
        out[#out + 1] = task.text(OF_BASE64, piece)
    end
    in_pieces(text, PIECE, function(piece)
        piece = rest .. gsub(gsub(piece, '[^%w+/_-]', ''), '[_-]', FROM_URL)
        local whole_groups = #piece - #piece % 4
        rest = sub(piece, whole_groups + 1)
        decode(sub(piece, 1, whole_groups))
    end)
    if #rest > 1 then
        decode(rest .. raw.rep('=', 4 - #rest))
    end
    return join(out)
end

-- Random bytes ---------------------------------------------------------------------------------------------------------

function digest.urandom(count)
    check(count ~= nil, 'Usage: digest.urandom(len)')
    check(type(count) == 'number' and count == count and count < 2^31,
          format("bad argument #2 to 'random_bytes' (cannot convert '%s' to 'uint64_t')", type(count)))
    if count < 0 then
        return
    end
    local out = {}
    for from = 1, floor(count), PIECE do
        local left = floor(count) - from + 1
        out[#out + 1] = task.text(RANDOM, left < PIECE and left or PIECE)
        internal.look()
    end
    return join(out)
end
