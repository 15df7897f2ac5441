// mlx-c calls std::format, which GCC has from version 13 on. The build forces
// this header into every file: it is <format> where the compiler has it, else
// as much of it as mlx-c uses, which is "{}" with streamable arguments.
#pragma once

#if __has_include(<format>)
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>

namespace std {

template <typename... Args>
string format(string_view pattern, const Args&... args) {
  ostringstream out;
  auto until_hole = [&] {
    size_t hole = pattern.find("{}");
    out << pattern.substr(0, hole);
    pattern.remove_prefix(hole == pattern.npos ? pattern.size() : hole + 2);
  };
  ((until_hole(), out << args), ...);
  out << pattern;
  return out.str();
}

} // namespace std
#endif
