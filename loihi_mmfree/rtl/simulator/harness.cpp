// Drives a simulated core: commands and tokens come in on stdin, logits and cycles go out on stdout.
//
// A request is a byte and what belongs to it, all little-endian:
//   'C' u32 n, n times u32 address and u32 data      the command port
//   'T' u8 fresh, u8 watched, u32 n, n beats          one token; the answer is described at `token`
// Arguments: the file of the weight stream, a seed, and how many of 1000 beats a stream is held back.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "Vmmfree_core.h"
#include "verilated.h"

namespace {

constexpr uint64_t kStuck = 50'000'000;  // cycles without a beat on any stream

VerilatedContext context;
Vmmfree_core core{&context};
std::vector<uint8_t> weights;
size_t at = 0;
std::mt19937_64 random_numbers;
unsigned held_back = 0;
bool offered = false;
uint64_t idle = 0;

template <typename T>
void read_value(T& value) {
    if (std::fread(&value, sizeof value, 1, stdin) != 1) std::exit(0);
}

template <typename T>
void write_value(const T& value) {
    std::fwrite(&value, sizeof value, 1, stdout);
}

bool stalls() { return held_back != 0 && random_numbers() % 1000 < held_back; }

void settle() {
    core.clk = 0;
    core.eval();
    context.timeInc(1);
}

void edge() {
    core.clk = 1;
    core.eval();
    context.timeInc(1);
    if (++idle > kStuck) {
        std::fprintf(stderr, "nothing moved for %llu cycles\n", static_cast<unsigned long long>(kStuck));
        std::exit(3);
    }
}

void command() {
    uint32_t count;
    read_value(count);
    core.command_valid = 1;
    for (uint32_t number = 0; number < count; ++number) {
        uint32_t address, data;
        read_value(address);
        read_value(data);
        core.command_address = address;
        core.command_data = data;
        settle();
        edge();
        idle = 0;
    }
    core.command_valid = 0;
    settle();
    edge();
}

struct Sent {
    uint32_t instruction, position;
    uint8_t data[SENT_BYTES];
};

struct Summed {
    uint32_t product, row;
    int32_t value;
};

// Answer: u64 cycles, u64 saturations so far, u32 number of logits and i32 each; then, if watched, u32 number of
// messages and each (u32 instruction, u32 position, data), and u32 number of sums and each (u32 product, u32 row, i32).
void token() {
    uint8_t fresh, watched;
    read_value(fresh);
    read_value(watched);
    uint32_t words;
    read_value(words);
    std::vector<uint8_t> row(static_cast<size_t>(words) * TOKEN_WORD_BYTES);
    if (std::fread(row.data(), 1, row.size(), stdin) != row.size()) std::exit(0);
    std::vector<int32_t> logits;
    std::vector<Sent> sent;
    std::vector<Summed> summed;
    uint32_t word = 0;
    bool waits = false;
    core.s_axis_token_tuser = fresh;
    for (bool done = false; !done;) {
        if (!waits) core.s_axis_token_tvalid = word < words && !stalls();
        if (core.s_axis_token_tvalid) std::memcpy(&core.s_axis_token_tdata, &row[word * TOKEN_WORD_BYTES], TOKEN_WORD_BYTES);
        if (!offered) {
            core.s_axis_weights_tvalid = !stalls();
            if (core.s_axis_weights_tvalid) std::memcpy(&core.s_axis_weights_tdata, &weights[at], WEIGHT_BYTES);
            offered = core.s_axis_weights_tvalid;
        }
        core.m_axis_logits_tready = !stalls();
        settle();
        waits = core.s_axis_token_tvalid && !core.s_axis_token_tready;
        if (core.s_axis_token_tvalid && core.s_axis_token_tready) ++word, idle = 0;
        if (core.s_axis_weights_tvalid && core.s_axis_weights_tready) {
            at = (at + WEIGHT_BYTES) % weights.size();
            offered = false;
            idle = 0;
        }
        if (core.m_axis_logits_tvalid && core.m_axis_logits_tready) {
            logits.push_back(static_cast<int32_t>(core.m_axis_logits_tdata));
            idle = 0;
        }
        if (watched && core.watch_sent) {
            Sent each{core.watch_sent_instruction, core.watch_sent_position, {}};
            std::memcpy(each.data, &core.watch_sent_data, SENT_BYTES);
            sent.push_back(each);
        }
        if (watched && core.watch_summed) {
            summed.push_back({core.watch_summed_product, core.watch_summed_row, static_cast<int32_t>(core.m_axis_logits_tdata)});
        }
        edge();
        done = word == words && !core.busy;
    }
    core.s_axis_token_tvalid = 0;
    write_value(static_cast<uint64_t>(core.cycles));
    write_value(static_cast<uint64_t>(core.saturations));
    write_value(static_cast<uint32_t>(logits.size()));
    std::fwrite(logits.data(), sizeof(int32_t), logits.size(), stdout);
    if (watched) {
        write_value(static_cast<uint32_t>(sent.size()));
        std::fwrite(sent.data(), sizeof(Sent), sent.size(), stdout);
        write_value(static_cast<uint32_t>(summed.size()));
        std::fwrite(summed.data(), sizeof(Summed), summed.size(), stdout);
    }
    std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4) return 2;
    std::ifstream file(arguments[1], std::ios::binary);
    weights.assign(std::istreambuf_iterator<char>(file), {});
    if (weights.empty() || weights.size() % WEIGHT_BYTES) return 2;
    random_numbers.seed(std::strtoull(arguments[2], nullptr, 10));
    held_back = std::strtoul(arguments[3], nullptr, 10);
    core.rst = 1;
    for (int number = 0; number < 4; ++number) settle(), edge();
    core.rst = 0;
    for (int kind; (kind = std::getchar()) != EOF;) {
        if (kind == 'C') command();
        if (kind == 'T') token();
    }
    return 0;
}
