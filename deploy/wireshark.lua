-- Wireshark and tshark show corelane's messages with this: codes, lengths, whether checksums are
-- right, what ERROR says, and the bodies of the messages that the protocol defines.
--
-- Put it into the folder that Help > About Wireshark > Folders calls "Personal Lua Plugins", or name
-- it: tshark -X lua_script:wireshark.lua. Port 8700 is taken for corelane's; others by the preference
-- or by Decode As.

local corelane = Proto("corelane", "corelane messages")

local HEADER_BYTES = 8

local CODES = {
    [0] = "PING", [1] = "ECHO", [2] = "ERROR", [3] = "GOAWAY", [5] = "REGISTER", [6] = "LOGIN",
    [7] = "SUBSCRIBE", [8] = "UNSUBSCRIBE", [9] = "PUBLISH", [10] = "EVENT",
}
local REASONS = {
    [1] = "BAD_LENGTH", [2] = "BAD_CHECKSUM", [3] = "UNKNOWN_CODE", [4] = "BAD_BODY",
    [5] = "RATE_LIMITED", [6] = "OVERLOADED", [7] = "NOT_AUTHENTICATED", [8] = "REJECTED",
    [9] = "INTERNAL", [10] = "TIMED_OUT", [11] = "SHUTTING_DOWN",
}
local STATUS = { [0] = "Bad", [1] = "Good" }

local field = {
    length = ProtoField.uint16("corelane.length", "Length", base.DEC, nil, nil, "Header and body, in bytes"),
    code = ProtoField.uint16("corelane.code", "Code", base.DEC, CODES),
    checksum = ProtoField.uint32("corelane.checksum", "Checksum", base.HEX, nil, nil, "CRC-32 of the body"),
    status = ProtoField.uint8("corelane.checksum.status", "Checksum status", base.DEC, STATUS),
    body = ProtoField.bytes("corelane.body", "Body"),
    answered = ProtoField.uint16("corelane.error.answered", "Answers code", base.DEC, CODES),
    reason = ProtoField.uint16("corelane.error.reason", "Reason", base.DEC, REASONS),
    text = ProtoField.string("corelane.error.text", "Text", base.UNICODE),
    closes_in = ProtoField.uint32("corelane.goaway.closes_in", "Closes in (ms)", base.DEC),
    kind = ProtoField.int32("corelane.account.type", "Type", base.DEC),
    username = ProtoField.string("corelane.account.username", "Username", base.UNICODE),
    password = ProtoField.string("corelane.account.password", "Password", base.UNICODE),
    topic = ProtoField.string("corelane.topic", "Topic", base.UNICODE),
    topic_length = ProtoField.uint8("corelane.topic.length", "Topic length", base.DEC),
    payload = ProtoField.bytes("corelane.payload", "Payload"),
    queued_for = ProtoField.uint32("corelane.publish.queued_for", "Queued for connections", base.DEC),
}
corelane.fields = field

local expert = {
    length = ProtoExpert.new("corelane.length.bad", "The length is less than the header's 8 bytes",
        expert.group.MALFORMED, expert.severity.ERROR),
    checksum = ProtoExpert.new("corelane.checksum.bad", "The checksum does not match the body",
        expert.group.CHECKSUM, expert.severity.ERROR),
    body = ProtoExpert.new("corelane.body.bad", "The body does not fit the code",
        expert.group.MALFORMED, expert.severity.WARN),
    refused = ProtoExpert.new("corelane.error", "The server answered ERROR",
        expert.group.RESPONSE_CODE, expert.severity.NOTE),
}
corelane.experts = expert

corelane.prefs.ports = Pref.range("TCP ports", "8700", "Ports that corelane servers listen on", 65535)
corelane.prefs.passwords = Pref.bool("Show passwords", false, "Show the passwords of REGISTER and LOGIN")

-- CRC-32 as zlib, PNG and Ethernet have it: reflected, polynomial 0x04C11DB7.
local CRC_TABLE = {}
for byte = 0, 255 do
    local crc = byte
    for _ = 1, 8 do
        local odd = bit.band(crc, 1) == 1
        crc = bit.rshift(crc, 1)
        if odd then
            crc = bit.bxor(crc, 0xEDB88320)
        end
    end
    CRC_TABLE[byte] = crc
end

local function crc32(bytes)
    local crc = 0xFFFFFFFF
    for i = 1, #bytes do
        local index = bit.band(bit.bxor(crc, bytes:byte(i)), 0xFF)
        crc = bit.bxor(bit.rshift(crc, 8), CRC_TABLE[index])
    end
    -- These operations give signed numbers.
    return bit.bnot(crc) % 0x100000000
end

-- The bytes of a padded text in front of the first NUL, as a range of at least one byte where there
-- are some.
local function padded(body, start, size)
    local range = body(start, size)
    local stop = range:bytes():raw():find("\0", 1, true)
    if stop == 1 then
        return range, ""
    end
    local text = stop and body(start, stop - 1) or range
    return range, text:string(ENC_UTF_8)
end

local function account(body, tree, start)
    tree:add(field.username, padded(body, start, 56))
    local range, password = padded(body, start + 56, 40)
    if password ~= "" and not corelane.prefs.passwords then
        password = "(not shown)"
    end
    tree:add(field.password, range, password)
end

-- A text that may be empty: Wireshark has no ranges without bytes.
local function add_rest(tree, what, body, start, ...)
    if start < body:len() then
        tree:add(what, body(start), ...)
    end
end

local function topic_and_payload(body, tree)
    local length = body:len() > 0 and body(0, 1):uint() or 0
    if length == 0 or body:len() < 1 + length then
        return false
    end
    tree:add(field.topic_length, body(0, 1))
    tree:add(field.topic, body(1, length), body(1, length):string(ENC_UTF_8))
    add_rest(tree, field.payload, body, 1 + length)
    return true
end

local function topic(body, tree)
    if body:len() < 1 or body:len() > 64 then
        return false
    end
    tree:add(field.topic, body(), body():string(ENC_UTF_8))
    return true
end

-- What a body is by its code. Each gives back whether the body fits, and what is worth being said
-- about it in the list of packets.
local BODIES = {
    [0] = function(body)
        return body:len() == 0
    end,
    [1] = function(body, tree)
        add_rest(tree, field.body, body, 0)
        return true
    end,
    [2] = function(body, tree)
        if body:len() < 4 then
            return false
        end
        local reason = body(2, 2):uint()
        tree:add(field.answered, body(0, 2))
        tree:add(field.reason, body(2, 2))
        if body:len() > 4 then
            tree:add(field.text, body(4), body(4):string(ENC_UTF_8))
        end
        tree:add_proto_expert_info(expert.refused)
        return true, REASONS[reason] or tostring(reason)
    end,
    [3] = function(body, tree)
        if body:len() ~= 4 then
            return false
        end
        tree:add(field.closes_in, body(0, 4))
        return true
    end,
    [5] = function(body, tree)
        if body:len() ~= 100 then
            return false
        end
        tree:add(field.kind, body(0, 4))
        account(body, tree, 4)
        return true
    end,
    [6] = function(body, tree)
        if body:len() ~= 96 then
            return false
        end
        account(body, tree, 0)
        return true
    end,
    [7] = topic,
    [8] = topic,
    [9] = function(body, tree, from_server)
        if not from_server then
            return topic_and_payload(body, tree)
        end
        if body:len() ~= 4 then
            return false
        end
        tree:add(field.queued_for, body(0, 4))
        return true
    end,
    [10] = topic_and_payload,
}

-- One whole frame. Gives back what it is called in the list of packets.
local function dissect_frame(frame, root, from_server)
    local code = frame(2, 2):uint()
    local body_bytes = frame:len() - HEADER_BYTES
    local name = CODES[code] or ("code " .. code)
    local tree = root:add(corelane, frame(), "corelane " .. name)
    tree:add(field.length, frame(0, 2))
    tree:add(field.code, frame(2, 2))
    local is = body_bytes == 0 and 0 or crc32(frame:raw(HEADER_BYTES, body_bytes))
    local says = frame(4, 4):uint()
    local checksum = tree:add(field.checksum, frame(4, 4))
    checksum:append_text(is == says and " [correct]" or string.format(" [incorrect, should be 0x%08x]", is))
    checksum:add(field.status, is == says and 1 or 0):set_generated()
    if is ~= says then
        checksum:add_proto_expert_info(expert.checksum)
        name = name .. " [bad checksum]"
    end
    local body = body_bytes > 0 and frame(HEADER_BYTES):tvb() or ByteArray.new():tvb("Body")
    local dissect = BODIES[code]
    if not dissect then
        add_rest(tree, field.body, body, 0)
        return name
    end
    local fits, more = dissect(body, tree, from_server)
    if not fits then
        add_rest(tree, field.body, body, 0)
        tree:add_proto_expert_info(expert.body)
    end
    return more and (name .. " " .. more) or name
end

function corelane.dissector(tvb, pinfo, root)
    pinfo.cols.protocol = "corelane"
    local from_server = pinfo.src_port == pinfo.match_uint
    local names = {}
    local offset = 0
    while offset < tvb:len() do
        local left = tvb:len() - offset
        local length = left >= 2 and tvb(offset, 2):uint() or HEADER_BYTES
        if length < HEADER_BYTES then
            -- Nothing after it can be trusted.
            local tree = root:add(corelane, tvb(offset), "corelane, no frame")
            tree:add(field.length, tvb(offset, 2)):add_proto_expert_info(expert.length)
            names[#names + 1] = "bad length " .. length
            break
        end
        if left < length then
            pinfo.desegment_offset = offset
            pinfo.desegment_len = left >= 2 and length - left or DESEGMENT_ONE_MORE_SEGMENT
            break
        end
        names[#names + 1] = dissect_frame(tvb(offset, length):tvb(), root, from_server)
        offset = offset + length
    end
    if #names > 0 then
        pinfo.cols.info = table.concat(names, ", ") .. (from_server and " (from the server)" or "")
    end
    return tvb:len()
end

local tcp_ports = DissectorTable.get("tcp.port")
local ports = corelane.prefs.ports
tcp_ports:add(ports, corelane)

function corelane.prefs_changed()
    if ports ~= corelane.prefs.ports then
        tcp_ports:remove(ports, corelane)
        ports = corelane.prefs.ports
        tcp_ports:add(ports, corelane)
    end
end
