-- The module errno: error numbers of the operating system and their texts. Behaviour: Tarantool 2.6.
-- Needs: kernel/task, library/modules
local internal, STRERROR = ...
local raw, task = internal.raw, internal.task
local error, floor, setmetatable, tonumber, type = raw.error, raw.floor, raw.setmetatable, raw.tonumber, raw.type

local NUMBERS = [[
E2BIG=7 EACCES=13 EADDRINUSE=98 EADDRNOTAVAIL=99 EAFNOSUPPORT=97 EAGAIN=11 EALREADY=114 EBADF=9 EBADMSG=74 EBUSY=16
ECANCELED=125 ECHILD=10 ECONNABORTED=103 ECONNREFUSED=111 ECONNRESET=104 EDEADLK=35 EDESTADDRREQ=89 EDOM=33 EDQUOT=122
EEXIST=17 EFAULT=14 EFBIG=27 EHOSTUNREACH=113 EIDRM=43 EILSEQ=84 EINPROGRESS=115 EINTR=4 EINVAL=22 EIO=5 EISCONN=106
EISDIR=21 ELOOP=40 EMFILE=24 EMLINK=31 EMSGSIZE=90 EMULTIHOP=72 ENAMETOOLONG=36 ENETDOWN=100 ENETRESET=102 ENETUNREACH=101
ENFILE=23 ENOBUFS=105 ENODATA=61 ENODEV=19 ENOENT=2 ENOEXEC=8 ENOLCK=37 ENOLINK=67 ENOMEM=12 ENOMSG=42 ENOPROTOOPT=92
ENOSPC=28 ENOSR=63 ENOSTR=60 ENOSYS=38 ENOTCONN=107 ENOTDIR=20 ENOTEMPTY=39 ENOTSOCK=88 ENOTSUP=95 ENOTTY=25 ENXIO=6
EOPNOTSUPP=95 EOVERFLOW=75 EPERM=1 EPIPE=32 EPROTO=71 EPROTONOSUPPORT=93 EPROTOTYPE=91 ERANGE=34 EROFS=30 ESPIPE=29 ESRCH=3
ESTALE=116 ETIME=62 ETIMEDOUT=110 ETXTBSY=26 EWOULDBLOCK=11 EXDEV=18
]]
local constants = {}
for name, number in raw.gmatch(NUMBERS, '(%w+)=(%d+)') do
    constants[name] = tonumber(number)
end

local function number_of(name, value)
    local number = tonumber(value)
    if not number or number ~= number or number >= 2^31 or number < -2^31 then
        return error(raw.format("bad argument #1 to '%s' (cannot convert '%s' to 'int')", name, type(value)), 0)
    end
    return number < 0 and -floor(-number) or floor(number)
end

-- The text of an error number; without one, of the session's last.
local function strerror(number)
    if number == nil then
        number = task.current().session.errno or 0
    end
    return task.text(STRERROR, number_of('strerror', number))
end

-- The number is one of the session: nothing here sets it but calls of errno(number).
internal.modules.errno = setmetatable({strerror = strerror}, {
    __index = constants,
    __newindex = function()
        return error("Can't create new errno constants", 0)
    end,
    __call = function(_, ...)
        local session = task.current().session
        local before = session.errno or 0
        if raw.select('#', ...) > 0 then
            session.errno = number_of('?', (...))
        end
        return before
    end,
})
