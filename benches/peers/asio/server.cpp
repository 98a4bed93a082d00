// The server that a user of Boost.Asio would write: one io_context on one thread, a session for
// each connection that keeps itself alive, async_read_some into a buffer of its own, async_write.
//
// PING is answered by PING, ECHO by the same body; each request's checksum is verified and each
// reply's computed, by libdeflate, which uses the CPU's own instructions as crc32fast does.
// Anything else ends the connection once the replies before it have left. While a write is under
// way, nothing is read.

#include <libdeflate.h>
#include <sched.h>
#include <sys/resource.h>

#include <array>
#include <boost/asio.hpp>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::size_t kHeaderBytes = 8;
constexpr std::uint16_t kPing = 0;
constexpr std::uint16_t kEcho = 1;
// A read buffer holds the longest frame, so an incomplete one always fits with more to come.
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr int kBacklog = 4096;

// What is wrong with the command line.
struct WrongWords : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::uint16_t load_u16(const std::uint8_t* at) {
    return static_cast<std::uint16_t>(at[0] << 8 | at[1]);
}

std::uint32_t load_u32(const std::uint8_t* at) {
    return std::uint32_t{load_u16(at)} << 16 | load_u16(at + 2);
}

void store_u16(std::uint8_t* at, std::uint16_t value) {
    at[0] = static_cast<std::uint8_t>(value >> 8);
    at[1] = static_cast<std::uint8_t>(value);
}

void store_u32(std::uint8_t* at, std::uint32_t value) {
    store_u16(at, static_cast<std::uint16_t>(value >> 16));
    store_u16(at + 2, static_cast<std::uint16_t>(value));
}

std::uint32_t checksum(const std::uint8_t* body, std::size_t body_bytes) {
    return libdeflate_crc32(0, body, body_bytes);
}

void append_frame(std::vector<std::uint8_t>& out, std::uint16_t code, const std::uint8_t* body,
                  std::size_t body_bytes) {
    std::array<std::uint8_t, kHeaderBytes> header;
    store_u16(header.data(), static_cast<std::uint16_t>(kHeaderBytes + body_bytes));
    store_u16(header.data() + 2, code);
    store_u32(header.data() + 4, checksum(body, body_bytes));
    out.insert(out.end(), header.begin(), header.end());
    out.insert(out.end(), body, body + body_bytes);
}

// How many bytes of whole frames were answered, and whether the stream can go on behind them.
struct Answered {
    std::size_t taken_bytes;
    bool open;
};

Answered answer_whole(const std::uint8_t* bytes, std::size_t size, std::vector<std::uint8_t>& out) {
    std::size_t taken = 0;
    while (size - taken >= sizeof(std::uint16_t)) {
        const std::uint8_t* frame = bytes + taken;
        const std::size_t length = load_u16(frame);
        if (length < kHeaderBytes) return {taken, false};
        if (size - taken < length) break;
        const std::uint16_t code = load_u16(frame + 2);
        const std::uint8_t* body = frame + kHeaderBytes;
        const std::size_t body_bytes = length - kHeaderBytes;
        if (checksum(body, body_bytes) != load_u32(frame + 4)) return {taken, false};
        if (code == kPing) {
            append_frame(out, kPing, body, 0);
        } else if (code == kEcho) {
            append_frame(out, kEcho, body, body_bytes);
        } else {
            return {taken, false};
        }
        taken += length;
    }
    return {taken, true};
}

class Session : public std::enable_shared_from_this<Session> {
public:
    explicit Session(tcp::socket socket) : socket_(std::move(socket)) {}

    void read() {
        auto self = shared_from_this();
        socket_.async_read_some(asio::buffer(input_.data() + held_, input_.size() - held_),
                                [self](error_code error, std::size_t received) {
                                    if (!error) self->answer(received);
                                });
    }

private:
    void answer(std::size_t received) {
        held_ += received;
        output_.clear();
        const Answered answered = answer_whole(input_.data(), held_, output_);
        held_ -= answered.taken_bytes;
        std::memmove(input_.data(), input_.data() + answered.taken_bytes, held_);
        if (!output_.empty()) {
            write(answered.open);
        } else if (answered.open) {
            read();
        }
    }

    void write(bool open) {
        auto self = shared_from_this();
        asio::async_write(socket_, asio::buffer(output_), [self, open](error_code error, std::size_t) {
            if (!error && open) self->read();
        });
    }

    tcp::socket socket_;
    // Not initialised: an idle connection has no more of it resident than it ever used.
    std::array<std::uint8_t, kReadBytes> input_;
    std::size_t held_ = 0;
    std::vector<std::uint8_t> output_;
};

class Server {
public:
    Server(asio::io_context& context, const tcp::endpoint& endpoint) : acceptor_(context) {
        acceptor_.open(endpoint.protocol());
        acceptor_.set_option(tcp::acceptor::reuse_address(true));
        acceptor_.bind(endpoint);
        acceptor_.listen(kBacklog);
        accept();
    }

    tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }

private:
    void accept() {
        acceptor_.async_accept([this](error_code error, tcp::socket socket) {
            if (error) throw boost::system::system_error(error, "accept");
            socket.set_option(tcp::no_delay(true));
            // `new` and not make_shared, which would fill the buffer with zeros.
            std::shared_ptr<Session>(new Session(std::move(socket)))->read();
            accept();
        });
    }

    tcp::acceptor acceptor_;
};

template <typename Number>
Number parse_number(std::string_view text, const std::string& what) {
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size()) {
        throw WrongWords(what + ", not `" + std::string(text) + "`");
    }
    return number;
}

tcp::endpoint parse_endpoint(std::string_view text) {
    const std::string what = "--listen takes an IPv4 address with a port";
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) throw WrongWords(what);
    error_code error;
    const auto address = asio::ip::make_address_v4(std::string(text.substr(0, colon)), error);
    if (error) throw WrongWords(what);
    return {address, parse_number<std::uint16_t>(text.substr(colon + 1), what)};
}

struct Words {
    tcp::endpoint endpoint;
    int cpu;
};

Words parse_words(int count, char** words) {
    std::optional<tcp::endpoint> endpoint;
    std::optional<int> cpu;
    for (int at = 1; at < count; at += 2) {
        const std::string flag = words[at];
        if (at + 1 == count) throw WrongWords(flag + " needs a value");
        if (flag == "--listen") {
            endpoint = parse_endpoint(words[at + 1]);
        } else if (flag == "--cpu") {
            cpu = parse_number<int>(words[at + 1], "--cpu takes the number of a CPU");
        } else {
            throw WrongWords(flag + " is not known here; --listen ADDR and --cpu N are");
        }
    }
    if (!endpoint || !cpu) throw WrongWords("--listen ADDR and --cpu N are both needed");
    return {*endpoint, *cpu};
}

void pin_this_thread(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        throw std::runtime_error("this thread cannot run on CPU " + std::to_string(cpu) + ": " +
                                 std::strerror(errno));
    }
}

// As far as this process may, since a connection takes a descriptor.
void raise_open_files() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return;
    }
    throw std::runtime_error(std::string("the limit of open files cannot be raised: ") +
                             std::strerror(errno));
}

}  // namespace

int main(int count, char** words) {
    try {
        const Words parsed = parse_words(count, words);
        pin_this_thread(parsed.cpu);
        raise_open_files();
        // 1: no other thread will run it, so it spares itself most of its locks.
        asio::io_context context{1};
        const Server server(context, parsed.endpoint);
        std::cout << "asio: listening on " << server.endpoint() << std::endl;
        context.run();
    } catch (const WrongWords& wrong) {
        std::cerr << "asio: " << wrong.what() << '\n';
        return 2;
    } catch (const std::exception& failure) {
        std::cerr << "asio: " << failure.what() << '\n';
        return 1;
    }
    return 1;
}
