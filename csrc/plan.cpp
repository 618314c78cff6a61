#include "plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

namespace {

constexpr double PI = 3.14159265358979323846;
constexpr int64_t LARGEST = int64_t(1) << 32;
constexpr int64_t ALIAS_BYTES = 4096;  // lines this far apart share a set of the first cache

struct Tables {
    Plan plan;
    std::vector<std::vector<float>> factors;
    std::vector<int64_t> run_offset;
    std::vector<float> node_factors, leaf_factors;
};

// n as odd · 2^levels; odd is 1, 3 or 5, else 0.
int odd_part(int64_t n, int *levels) {
    *levels = 0;
    while (n > 0 && n % 2 == 0) n /= 2, ++*levels;
    return n == 1 || n == 3 || n == 5 ? int(n) : 0;
}

// The radices that split n into last children, the root's first; empty if there are none. As few
// passes as there can be, since each goes once over the data.
std::vector<int> radices(int64_t children, int groups, int widest) {
    int levels;
    const int odd = odd_part(children, &levels);
    if (odd == 0) return {};
    const int deepest = widest == 8 ? 3 : 2;
    std::vector<int> best;
    for (int root = odd == 1 ? 1 : 0; root <= (odd == 1 ? 3 : 0); ++root) {
        int rest = levels - root;
        if (rest < 0) continue;
        const int passes = (rest + deepest - 1) / deepest;
        std::vector<int> found{odd == 1 ? 1 << root : odd};
        for (int left = passes; left > 0; --left) {
            const int take = (rest + left - 1) / left;  // the wider ones first
            found.push_back(1 << take);
            rest -= take;
        }
        if (found.back() % groups == 0 && (best.empty() || found.size() <= best.size())) best = found;
    }
    return best;
}

bool served(int64_t n, bool channel_lanes, int width, int widest) {
    const int64_t last = channel_lanes ? 1 : 4 * width;
    if (n % last != 0) return false;
    return !radices(n / last, channel_lanes ? 1 : width / 4, widest).empty();
}

void push(std::vector<float> &table, double angle) {
    table.push_back(float(std::cos(angle)));
    table.push_back(float(std::sin(angle)));
}

std::vector<double> split(double angle, int radix) {
    std::vector<double> children;
    if (radix % 2 != 0) {
        for (int r = 0; r < radix; ++r) children.push_back((angle + 2 * PI * r) / radix);
        return children;
    }
    children = {angle};
    for (; radix > 1; radix /= 2) {
        std::vector<double> next;
        for (double a : children) next.push_back(a / 2), next.push_back(a / 2 + PI);
        children = next;
    }
    return children;
}

void push_factors(std::vector<float> &table, double angle, int radix) {
    if (radix % 2 != 0) {  // powers of each child's root
        for (double root : split(angle, radix))
            for (int q = 1; q < radix; ++q) push(table, q * root);
        return;
    }
    push(table, angle / 2);
    if (radix >= 4) push(table, angle / 4);
    if (radix == 8) push(table, angle / 8), push(table, angle / 8 + PI / 4);
}

void push_lanes(std::vector<float> &table, const std::vector<double> &angles) {
    for (double a : angles) table.push_back(float(std::cos(a)));
    for (double a : angles) table.push_back(float(std::sin(a)));
}

// Factors of one leaf: its lanes are nodes of `width` positions, with these angles.
void push_leaf(std::vector<float> &table, const std::vector<double> &angles, int groups) {
    auto times = [&](double scale, double add) {
        std::vector<double> scaled;
        for (double a : angles) scaled.push_back(a * scale + add);
        return scaled;
    };
    const double g = groups;
    if (groups >= 2) push_lanes(table, times(0.5, 0));
    if (groups == 4) push_lanes(table, times(0.25, 0));
    const std::vector<double> child = split(0, groups);  // what each child adds to angle/groups
    for (int i = 0; i < groups; i += 2) push_lanes(table, times(0.5 / g, child[i] / 2));
    for (int i = 0; i < groups; ++i) push_lanes(table, times(0.25 / g, child[i] / 4));
}

void build(Tables &t, int64_t n, bool channel_lanes, int width, int widest) {
    Plan &plan = t.plan;
    plan = Plan{};
    plan.n = n, plan.channel_lanes = channel_lanes;
    const int64_t last_vectors = channel_lanes ? 1 : 4;  // complex vectors of a last child
    const int64_t last = channel_lanes ? 1 : 4 * width;  // its positions
    const int groups = channel_lanes ? 1 : width / 4;
    const std::vector<int> radix = radices(n / last, groups, widest);
    plan.passes = int(radix.size());
    plan.leaf_nodes = channel_lanes ? radix.back() : groups;

    // Strides from the last pass up: children that would meet in the same sets of the cache are
    // moved apart by one complex vector.
    int64_t child = last_vectors, span = last_vectors * 2 * width, run = 0;
    for (int p = plan.passes - 1; p >= 0; --p) {
        const bool pad = span * int64_t(sizeof(float)) >= ALIAS_BYTES;
        if (pad && run == 0) run = child;
        const int64_t stride = span + (pad ? 2 * width : 0);
        plan.pass[p].radix = radix[p];
        plan.pass[p].child = child;
        plan.pass[p].stride = stride;
        child *= radix[p], span = stride * radix[p];
    }
    if (run == 0) run = child;
    plan.scratch = span;
    t.run_offset = {0};
    for (int p = plan.passes - 1; p >= 0; --p) {
        const int64_t length = plan.pass[p].child;
        plan.pass[p].run = length < run ? length : run;
        plan.pass[p].runs = length / plan.pass[p].run;
        if (length < run) continue;
        const size_t inside = t.run_offset.size();
        for (int r = 1; r < plan.pass[p].radix; ++r)
            for (size_t i = 0; i < inside; ++i)
                t.run_offset.push_back(t.run_offset[i] + r * plan.pass[p].stride);
    }
    plan.run_offset = t.run_offset.data();

    std::vector<double> angles{-PI / 2};
    t.factors.resize(radix.size());
    for (size_t p = 0; p < radix.size(); ++p) {
        std::vector<double> next;
        for (double angle : angles) {
            push_factors(t.factors[p], angle, radix[p]);
            for (double a : split(angle, radix[p])) next.push_back(a);
        }
        plan.pass[p].factors = t.factors[p].data();
        plan.pass[p].factors_per_node = int64_t(t.factors[p].size() / angles.size());
        angles = next;
    }
    if (channel_lanes) return;
    for (size_t i = 0; i < angles.size(); i += groups) {
        std::vector<double> lanes;
        for (int g = 0; g < groups; ++g) {
            push_factors(t.node_factors, angles[i + g], 4);
            for (double a : split(angles[i + g], 4)) lanes.push_back(a);
        }
        push_leaf(t.leaf_factors, lanes, groups);
    }
    plan.node_factors = t.node_factors.data();
    plan.leaf_floats = int64_t(t.leaf_factors.size() / (angles.size() / groups));
    // From a whole cache line on, so that no vector straddles two.
    const size_t count = t.leaf_factors.size();
    t.leaf_factors.resize(count + 16);
    size_t shift = 0;
    while (reinterpret_cast<uintptr_t>(t.leaf_factors.data() + shift) % 64 != 0) ++shift;
    std::copy_backward(
        t.leaf_factors.begin(), t.leaf_factors.begin() + count,
        t.leaf_factors.begin() + count + shift);
    plan.leaf_factors = t.leaf_factors.data() + shift;
}

}  // namespace

const Plan *plan_of(int64_t n, bool channel_lanes, int width, int widest) {
    try {
        static std::mutex mutex;
        static auto &plans = *new std::map<std::tuple<int64_t, bool, int, int>, Tables>;
        std::lock_guard<std::mutex> lock(mutex);
        const auto key = std::make_tuple(n, channel_lanes, width, widest);
        auto found = plans.find(key);
        if (found == plans.end()) {
            if (!served(n, channel_lanes, width, widest)) return nullptr;
            found = plans.emplace(key, Tables{}).first;
            try {
                build(found->second, n, channel_lanes, width, widest);
            } catch (...) {
                plans.erase(found);
                throw;
            }
        }
        return &found->second.plan;
    } catch (...) {  // the caller is C
        return nullptr;
    }
}

int64_t size_at_least(int64_t least, bool channel_lanes, int width, int widest) {
    int64_t best = -1;
    try {
        for (int64_t odd : {1, 3, 5})
            for (int64_t n = odd; n <= LARGEST; n *= 2)
                if (n >= least && (best < 0 || n < best) && served(n, channel_lanes, width, widest))
                    best = n;
    } catch (...) {  // the caller is C
        return -2;
    }
    return best;
}

float *workspace(int64_t floats) {
    struct Free {
        void operator()(void *p) const { std::free(p); }
    };
    static thread_local std::unique_ptr<void, Free> memory;
    static thread_local int64_t held = 0;
    if (!memory || held < floats) {
        memory.reset();
        held = 0;
        memory.reset(std::malloc(size_t(floats) * sizeof(float) + 64));
        if (!memory) return nullptr;
        held = floats;
    }
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory.get());
    return reinterpret_cast<float *>((address + 63) & ~uintptr_t(63));
}
