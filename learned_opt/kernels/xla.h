// What a handler of XLA's foreign function interface reads of its call frame.

#pragma once

#include "xla/ffi/api/c_api.h"

namespace xla {

// XLA calls a handler once to learn its version; answers that, and says that it did.
inline bool asked_for_version(XLA_FFI_CallFrame* frame) {
  XLA_FFI_Extension_Base* extension = frame->extension_start;
  if (!extension || extension->type != XLA_FFI_Extension_Metadata) return false;
  XLA_FFI_Metadata* metadata = ((XLA_FFI_Metadata_Extension*)extension)->metadata;
  metadata->api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr, XLA_FFI_API_MAJOR,
                           XLA_FFI_API_MINOR};
  metadata->traits = 0;
  metadata->state_type_id = XLA_FFI_TypeId{0};
  return true;
}

// Operands and results, by position. All have the batch's dimensions in front, the same ones.
class Call {
 public:
  // `row` is the position of an operand that has one dimension beyond the batch's.
  Call(XLA_FFI_CallFrame* frame, int row)
      : operands_((XLA_FFI_Buffer**)frame->args.args),
        results_((XLA_FFI_Buffer**)frame->rets.rets),
        members_(elements(*operands_[row], operands_[row]->rank - 1)) {}

  int64_t members() const { return members_; }
  // A member's part of an array.
  template <typename T>
  T* operand(int i, int64_t member) const {
    return part<T>(*operands_[i], member);
  }
  template <typename T>
  T* result(int i, int64_t member) const {
    return part<T>(*results_[i], member);
  }
  // An operand's dimension, counted from the end: 1 is the last.
  int64_t operand_size(int i, int from_end = 1) const {
    return operands_[i]->dims[operands_[i]->rank - from_end];
  }
  int64_t result_size(int i) const { return results_[i]->dims[results_[i]->rank - 1]; }

 private:
  static int64_t elements(const XLA_FFI_Buffer& buffer, int64_t dimensions) {
    int64_t product = 1;
    for (int64_t i = 0; i < dimensions; i++) product *= buffer.dims[i];
    return product;
  }
  template <typename T>
  T* part(const XLA_FFI_Buffer& buffer, int64_t member) const {
    static_assert(sizeof(T) == 4, "the type of the array's elements");
    if (member == 0) return (T*)buffer.data;
    return (T*)buffer.data + member * (elements(buffer, buffer.rank) / members_);
  }

  XLA_FFI_Buffer** operands_;
  XLA_FFI_Buffer** results_;
  int64_t members_;
};

}  // namespace xla
